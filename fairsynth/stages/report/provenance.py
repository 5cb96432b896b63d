"""Where the results come from: versions, models, fingerprints of the stages, hashes of files."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fairsynth.exports.terms import model_terms
from fairsynth.stages.evaluate.output import predictions_file
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import TABLE

PACKAGES = ("fairsynth", "torch", "ray", "diffusers", "peft", "transformers", "faiss-cpu", "numpy", "pillow", "pyarrow")


def provenance(inputs: Inputs) -> dict[str, Any]:
    """The part ``provenance`` of report.json. Versions are those that wrote the report."""
    artifacts, classify = inputs.artifacts, inputs.config.classify
    files = {
        "manifest.parquet (real images)": artifacts["ingest"].path / "manifest.parquet",
        "synthetic.parquet (synthetic images)": artifacts["synthesize"].path / TABLE,
        "predictions.parquet": predictions_file(artifacts["evaluate"]),
    }
    return {
        "versions": {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "models": dict(inputs.models) | {"backbone": f"{classify.backbone}@{classify.backbone_revision or 'main'}"},
        "base_model": model_terms(inputs.config),
        "fingerprints": {name: artifact.digest for name, artifact in artifacts.items()},
        "sha256": {name: _sha256(path) for name, path in files.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

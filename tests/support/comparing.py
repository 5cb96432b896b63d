"""What two runs must have in common to count as the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def stage_folder(out: Path, stage: str) -> Path:
    """The single artifact folder of a stage."""
    (folder,) = (path for path in (out / "stages").glob(f"{stage}-*") if (path / "artifact.json").exists())
    return folder


def sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def essence(out: Path) -> dict[str, Any]:
    """Everything a run promises to reproduce: rows, image bytes, adapter bytes, predictions, settings."""
    synthetic = pq.read_table(stage_folder(out, "synthesize") / "synthetic.parquet").to_pylist()
    predictions = pq.read_table(out / "predictions.parquet").to_pylist()
    report = json.loads((out / "report.json").read_text())
    files = sorted(path for name in ("adapters", "synthetic") for path in (out / name).rglob("*") if path.is_file())
    return {
        "rows": {row["image_id"]: row for row in synthetic},
        "files": {str(path.relative_to(out)): sha(path) for path in files},
        "clusters": pq.read_table(stage_folder(out, "cluster") / "clusters.parquet").to_pylist(),
        "predictions": predictions,
        "settings": report["settings"],
        "fingerprints": sorted(
            # ingest is keyed by file times, and each run writes the demo dataset anew
            path.name
            for path in (out / "stages").iterdir()
            if not path.name.startswith("ingest-")
        ),
    }

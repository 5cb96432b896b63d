"""The files of ``deploy/``, the schemas that they are checked against, and the versions that they must agree with."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy"
# What looks like a key of AWS, a private key, a token of Hugging Face or Weights & Biases, or a secret in an address.
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|hf_[A-Za-z0-9]{20}|[?&](secret|token)\w*=|//[^/\s]+:[^/\s]+@", re.I
)


def documents(name: str) -> list[dict[str, Any]]:
    """The documents of a file of ``deploy/``."""
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def schema(project: str) -> dict[str, Any]:
    """A project's schema, in which fields that it does not name are refused."""
    text = (ROOT / "tests" / "support" / "schemas" / f"{project}.json").read_text("utf-8")
    return dict(_strict(json.loads(text)))


def _strict(node: Any, names: bool = False) -> Any:
    """Kubernetes drops fields that are unknown to it, with a warning at most: a typo would do nothing."""
    if isinstance(node, Mapping):
        inner = {key: _strict(value, key in ("properties", "$defs") and not names) for key, value in node.items()}
        closed = names or "properties" not in node or node.get("x-kubernetes-preserve-unknown-fields")
        return inner if closed else {"additionalProperties": False, **inner}
    return [_strict(item) for item in node] if isinstance(node, list) else node


def problems(document: Mapping[str, Any], by: Mapping[str, Any]) -> list[str]:
    """Where a document does not keep to a schema."""
    errors = Draft202012Validator(by).iter_errors(document)
    return sorted(f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors)


def pins() -> dict[str, str]:
    """The exact versions that the project is tested with."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def image_ray() -> str:
    """The Ray version of the image that ``deploy/Dockerfile`` starts from."""
    (version,) = re.findall(
        r"^FROM rayproject/ray:([0-9.]+)-py311-\$\{VARIANT\}$", (FOLDER / "Dockerfile").read_text("utf-8"), re.M
    )
    return str(version)


def shell_problem(script: str) -> str:
    """What bash says of a script that it cannot read."""
    return subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False).stderr

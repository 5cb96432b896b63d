"""Copies the finished models into the package and records their hashes and quality."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

# The package's model by the step that finishes it, and that step's folder.
PARTS = {
    "vision": ("clip", "vision"),
    "unet": ("diffusion", "diffusion"),
    "flow": ("flow", "flow"),
    "judge": ("judge", "judge"),
}


def finished(folder: Path) -> bool:
    """Whether ``folder`` holds all that is installed."""
    return all((folder / source).is_dir() for _, source in PARTS.values())


def install(folder: Path, target: Path, seed: int, only: str | None = None) -> None:
    """Replace the weights in ``target``, the package's, by those in ``folder``, or ``only`` those that one step finished.

    ``weights.json`` there gets the SHA-256 of each file.
    """
    for name, source in (part for step, part in PARTS.items() if only in (None, step)):
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(folder / source, target / name)
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.name != "weights.json")
    hashes = {path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    facts = {"recipe": "python -m jobs.pretrain_demo --out DIR --install", "seed": seed, "files": hashes}
    (target / "weights.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    size = sum(path.stat().st_size for path in files)
    print(f"installed {len(files)} files, {size / 2**20:.1f} MiB, in {target}")

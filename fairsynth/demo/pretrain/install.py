"""Copies the finished models into the package and records their hashes and quality."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from fairsynth.models.sources import demo_folder

PARTS = {"clip": "vision", "diffusion": "diffusion", "judge": "judge"}


def install(folder: Path, seed: int) -> None:
    """Replace the package's weights by those in ``folder``; ``weights.json`` gets the SHA-256 of each file."""
    target = demo_folder("clip").parent
    for name, source in PARTS.items():
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(folder / source, target / name)
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.name != "weights.json")
    hashes = {path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    facts = {"recipe": "python -m jobs.pretrain_demo --out DIR --install", "seed": seed, "files": hashes}
    (target / "weights.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    size = sum(path.stat().st_size for path in files)
    print(f"installed {len(files)} files, {size / 2**20:.1f} MiB, in {target}")

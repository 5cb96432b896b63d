"""A folder with a table of another name and columns of its own: labels.csv with img, species, place, part."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = ("img", "species", "place", "part")
READING = {
    "format": "folder",
    "options": {"table": "labels.csv", "file_column": "img"},
    "label_column": "species",
    "attribute_column": ["place"],
}


def zoo(root: Path, parts: tuple[str, ...] = ("train", "validation", "test"), each: int = 3) -> Path:
    """The folder: ``each`` images of every group in every part, and the table."""
    (root / "pics").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), [",".join(COLUMNS)]
    for i, (part, species, place, _) in enumerate(product(parts, ("crab", "fish"), ("beach", "reef"), range(each))):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / "pics" / f"{i:03d}.png")
        rows.append(f"pics/{i:03d}.png,{species},{place},{part}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root

"""The README's picture: real and synthetic images of each group of a finished run.

``python benchmarks/picture.py runs/demo benchmarks/demo.png`` draws it.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS, TILE, LABEL = 10, 48, 22


def strip(paths: list[Path]) -> Image.Image:
    """Two rows of images."""
    sheet = Image.new("RGB", (COLUMNS * TILE, 2 * TILE), "white")
    for i, path in enumerate(paths[: 2 * COLUMNS]):
        with Image.open(path) as image:
            tile = image.convert("RGB").resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST)
        sheet.paste(tile, (i % COLUMNS * TILE, i // COLUMNS * TILE))
    return sheet


def images(folder: Path, split: str | None) -> dict[tuple[str, str], list[Path]]:
    """Image files of each group of an image folder."""
    found: dict[tuple[str, str], list[Path]] = {}
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if split is None or row["split"] == split:
                found.setdefault((row["label"], row["attribute"]), []).append(folder / row["file_name"])
    return found


def draw_groups(run: Path, target: Path) -> None:
    """Draw one line per group: real training images left, accepted synthetic ones right."""
    (dataset,) = (run / "dataset").iterdir()
    real, synthetic = images(dataset, "train"), images(run / "synthetic", None)
    facts = json.loads((run / "report.json").read_text("utf-8"))["groups"]
    height = 2 * TILE + LABEL + 8
    page = Image.new("RGB", (2 * COLUMNS * TILE + 24, len(facts) * height), "white")
    draw = ImageDraw.Draw(page)
    for i, group in enumerate(facts):
        key, top = (group["label"], group["attribute"]), i * height
        draw.text((0, top + 5), f"{', '.join(key)}: {group['real']} real training images", fill="black", font_size=13)
        draw.text((COLUMNS * TILE + 24, top + 5), f"{group['synthetic']} synthetic", fill="black", font_size=13)
        page.paste(strip(real[key]), (0, top + LABEL))
        page.paste(strip(synthetic[key]), (COLUMNS * TILE + 24, top + LABEL))
    page.save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("target", type=Path, help="where to write the picture")
    chosen = parser.parse_args()
    draw_groups(chosen.run, chosen.target)


if __name__ == "__main__":
    main()

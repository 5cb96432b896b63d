"""Small datasets as people have them, and what fairsynth says of them: by its functions, or by its command line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fairsynth.data.metadata import Entry, Metadata
from fairsynth.manifest import SPLITS
from tests.support.data.dataset_files import image, load, put

HEADER = ("file_name", "label", "attribute", "split")
GROUPS = tuple((y, a) for y in ("cat", "dog") for a in ("in", "out"))
# (file name, label, attribute, split) of 2 images of each group in each split.
ROWS = tuple(
    (f"{number:05d}.jpg", y, a, split)
    for number, (split, (y, a), _) in enumerate((s, g, i) for s in SPLITS for g in GROUPS for i in range(2))
)
Row = Sequence[str]


def csv_text(rows: Sequence[Row], separator: str = ",", end: str = "\n") -> str:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    return text.getvalue()


def image_folder(root: Path, edit: Callable[[Row], Row] = tuple, header: Row = HEADER, place: str = "images/") -> Path:
    """A folder of images with metadata.csv, whose rows are edited."""
    rows = []
    for number, (name, *rest) in enumerate(ROWS):
        put(root / place / name, image(number))
        rows.append(edit((place + name, *rest)))
    put(root / "metadata.csv", csv_text([header, *rows]))
    return root


def plain(root: Path, place: str = "images/") -> list[Entry]:
    """The entries of that folder as they are to be, in order of paths."""
    return [Entry(place + name, split, y, a) for name, y, a, split in ROWS]


def read(root: Path, **options: object) -> Metadata:
    """The metadata as a run reads them, the entries in order of paths."""
    found = load(root, **options)
    found.entries.sort()
    return found


def told(root: Path, *options: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of ``fairsynth inspect`` in a process of its own."""
    command = [sys.executable, "-m", "fairsynth.cli", "inspect", str(root), *options]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, **(env or {})}, timeout=120, check=False)
    return ended.returncode, (ended.stdout + ended.stderr).decode("utf-8", "replace")


def json_lines(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)

"""Reading metadata.csv as text: nothing is guessed, nothing renamed."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fairsynth.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One row of a dataset's metadata, before its file was looked at."""

    path: str
    split: str
    label: str
    attribute: str


def dataset_root(root: str) -> Path:
    """The dataset's folder. Raises DataError if there is none."""
    folder = Path(root)
    if not root:
        raise DataError("no dataset given; set --data.root FOLDER (or data.root in the config)")
    if not folder.is_dir():
        raise DataError(
            f"dataset folder {root!r} does not exist; set --data.root to the folder that holds metadata.csv"
        )
    return folder


def read_metadata(folder: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """All rows of ``folder/metadata.csv`` as text.

    Raises DataError: no file, not UTF-8, a column missing, a row too short, no rows.
    """
    path = folder / "metadata.csv"
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; the dataset folder must hold a metadata.csv with the columns {', '.join(needed)}"
        )
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            header = list(reader.fieldnames or [])
            check_columns(path, header, needed)
            rows = list(reader)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 (line {_first_bad_line(path)}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is not valid CSV: {error}") from None
    for number, row in enumerate(rows, start=2):
        if any(row[column] is None for column in needed):
            raise DataError(f"{path}, row {number}: fewer values than columns")
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _first_bad_line(path: Path) -> int:
    """The line of the first byte that is not UTF-8; the reader's own position counts from its buffer."""
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content[: error.start].count(b"\n") + 1
    return 1


def check_columns(path: Path, found: Sequence[str], needed: Sequence[str]) -> None:
    """Raise DataError if a needed column is missing, with a guess at what was meant."""
    for column in needed:
        if column not in found:
            near = difflib.get_close_matches(column, found, n=1, cutoff=0.6)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{path} has no column {column!r}{guess}; it has: {', '.join(found) or 'none'}; needed: {', '.join(needed)}"
            )


def safe_path(folder: Path, name: str) -> str:
    """A relative path that stays inside the folder. Raises DataError for any other."""
    pure = PurePosixPath(name)
    if not name or "://" in name or "\0" in name or pure.is_absolute() or ".." in pure.parts or os.path.isabs(name):
        raise DataError(f"file name {name!r} in metadata.csv must be a relative path inside {folder}")
    return pure.as_posix()

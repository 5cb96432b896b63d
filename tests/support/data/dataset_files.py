"""Files of small datasets: their images, tables and archives, and how they are loaded."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.metadata import Metadata
from fairsynth.data.storage import Storage
from tests.support.datasets import encoded, picture, write_rows

SPLITS = ("train", "val", "test")
GROUPS = (("cat", "indoor"), ("cat", "outdoor"), ("dog", "indoor"), ("dog", "outdoor"))
# (split, label, attribute) of the images of a small dataset.
MEMBERS = [(split, *group) for split in SPLITS for group in GROUPS]
Sizes = Mapping[str, Sequence[int]]


def load(root: Path | str, **options: Any) -> Metadata:
    """The dataset's checked metadata, as the pipeline reads it."""
    config = DataConfig(root=str(root), **options)
    return dataset.load(config, Storage(config.root))


def sizes(metadata: Metadata, groups: Iterable[tuple[str, str]]) -> Sizes:
    """Images per group of each split."""
    counts = Counter((entry.split, entry.label, entry.attribute) for entry in metadata.entries)
    found = {split: tuple(counts[split, y, a] for y, a in groups) for split in SPLITS}
    assert sum(map(sum, found.values())) == len(metadata.entries)
    return found


def image(number: int, format: str = "JPEG") -> bytes:
    """An image file, another for each number."""
    return encoded(picture(number % 2, number // 2 % 2, number), format)


def put(path: Path, content: bytes | str) -> Path:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def not_listed(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    """Folders of this name may not be listed; root, as which tests may run, may list anything by itself."""
    listing = os.scandir

    def refuse(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
        if folder.endswith(name):
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", refuse)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a .csv, .jsonl or .parquet table of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_rows(path, header, rows)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows)
        put(path, "".join(f"{line}\n" for line in lines))
    else:
        columns = {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(header)}
        pq.write_table(pa.table(columns), path)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], **options: Any) -> Path:
    """A tar of regular files, as the webdataset library writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.uname = len(content), 0o444, "bigdata"
            tar.addfile(header, io.BytesIO(content))
    return path


def csv_bytes(rows: Sequence[Sequence[str]], end: str = "\n") -> bytes:
    """Rows as CSV with these line ends."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue().encode()

"""The synthetic set in the formats that others read.

Each writer takes an iterator of (row, file) and holds at most a batch of it, however many images come. A row is flat
(text, numbers, True and False, None), all rows have the same keys, and ``image_id``, ``label`` and ``attribute`` are
among them. Two columns come first: ``is_synthetic``, always true, and ``source``, the program. All raise ValueError
for a row that breaks this.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.groups import Group
from fairsynth.version import __version__

Row = Mapping[str, Any]
Images = Iterable[tuple[Row, bytes]]
MARKS = {"is_synthetic": True, "source": f"fairsynth {__version__}"}
_NEEDED = ("image_id", "label", "attribute")
_RESERVED = {*MARKS, "file_name", "image"}
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Signs of a formula, full-width ones too, behind apostrophes and what is not seen; and cells that begin with a new line.
_FORMULA = re.compile(r"'*(?:[\s\x00-\x1f\ufeff\u200b-\u200f]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
_AS_IT_IS = frozenset((int, float, type(None)))  # types of cells
FILES_PER_FOLDER = 10_000
# As many as Hugging Face's own writer: its viewer reads a row group at a time.
_ROW_GROUP = 100


def image_folder(group: Group, number: int, per_folder: int = FILES_PER_FOLDER) -> str:
    """The folder of an image, the ``number``-th of its group from 0: the group's own, then ``.00001`` and so on behind it.

    File managers, network disks and the hub are slow with more files in a folder, or refuse them. No group has such a name.
    """
    part = number // per_folder
    return f"images/{group.slug}" + (f".{part:05d}" if part else "")


def write_folder(target: Path, images: Images, suffix: str, per_folder: int = FILES_PER_FOLDER) -> int:
    """Hugging Face imagefolder: ``metadata.csv`` and ``images/<group>/<image_id><suffix>``; returns the number of rows.

    Of each group ``per_folder`` files lie in a folder (``image_folder``). Text that a spreadsheet would run as a formula gets
    an apostrophe before it (``inert``).
    """
    folders, of_group = dict[tuple[Group, int], str](), Counter[Group]()
    count, marks = 0, [_cell(value) for value in MARKS.values()]
    place = os.fspath(target)  # here, also of an output in a bucket
    with open(target / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        for count, (row, content) in enumerate(_checked(images), 1):
            if count == 1:
                table.writerow(["file_name", *MARKS, *row])
            group = Group(row["label"], row["attribute"])
            number, part = of_group[group], (group, of_group[group] // per_folder)
            of_group[group] += 1
            if part not in folders:
                folders[part] = image_folder(group, number, per_folder)
                (target / folders[part]).mkdir(parents=True, exist_ok=True)
            name = f"{folders[part]}/{row['image_id']}{suffix}"
            with open(f"{place}/{name}", "xb") as file:
                file.write(content)
            table.writerow(
                [name, *marks, *(value if type(value) in _AS_IT_IS else _cell(value) for value in row.values())]
            )
        if not count:
            table.writerow(["file_name", *MARKS, *_NEEDED])
    return count


def _cell(value: Any) -> Any:
    # Lower case, as JSON has it: pandas and Hugging Face read a column of truth values from it.
    return str(value).lower() if isinstance(value, bool) else inert(value)


def inert(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe; a number such as -1 is none.

    So does text that is such text behind apostrophes: without the first one, each is what it was.
    """
    if not isinstance(value, str) or value[:1].isalnum():
        return value
    dangerous = _FORMULA.match(value)
    return f"'{value}" if dangerous and not re.fullmatch(r"[+-]?\d+(\.\d+)?", value, re.ASCII) else value


def write_parquet(target: Path, images: Images, rows_per_file: int = 10_000, types: pa.Schema | None = None) -> int:
    """``data/train-00000-of-0000N.parquet``: ``image`` as Hugging Face's Image, then columns; returns the row count.

    In a folder of their own, for pandas reads all files of a folder, a card among them, as Parquet.
    ``types``: of columns, by name. Without it a column's type is that of the first 100 rows, and text if they
    have only None. Raises pyarrow.ArrowException (ArrowInvalid, ArrowTypeError) for a later value of another type.
    """
    schema, done, files, folder = None, 0, 0, target / "data"
    folder.mkdir()
    for files, rows in enumerate(_parts(_checked(images), rows_per_file), 1):
        groups = _row_groups(rows)
        first = next(groups)
        schema = schema or _schema(first, types)
        with pq.ParquetWriter(folder / f".part-{files - 1:05d}", schema) as writer:
            for group in chain([first], groups):
                writer.write_table(pa.Table.from_pylist(group, schema))
                done += len(group)
    # Their number is part of the names.
    for i in range(files):
        (folder / f".part-{i:05d}").rename(folder / f"train-{i:05d}-of-{files:05d}.parquet")
    return done


def _row_groups(rows: Iterator[tuple[Row, bytes]]) -> Iterator[list[dict[str, Any]]]:
    while group := [_parquet_row(row, content) for row, content in islice(rows, _ROW_GROUP)]:
        yield group


def _parquet_row(row: Row, content: bytes) -> dict[str, Any]:
    name = f"{row['image_id']}.{extension(content)}"
    return {"image": {"bytes": content, "path": name}, **MARKS, **row}


def _schema(rows: list[dict[str, Any]], types: pa.Schema | None) -> pa.Schema:
    """Columns with the metadata by which Hugging Face's datasets know that ``image`` holds images."""
    inferred = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "image"} for row in rows]).schema
    fields = [inferred.field(i) for i in range(len(inferred))]
    if types is not None:
        fields = [types.field(field.name) if field.name in types.names else field for field in fields]
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in fields]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {f.name: {"dtype": _HF_NAMES.get(str(f.type), str(f.type)), "_type": "Value"} for f in fields}
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return pa.schema([image, *fields], {"huggingface": json.dumps({"info": {"features": features}})})


_HF_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}


def write_webdataset(target: Path, images: Images, per_shard: int = 10_000) -> int:
    """``000000.tar`` and so on: ``<image_id>.<ext>`` and ``<image_id>.json`` side by side; returns the row count.

    The same rows give the same bytes. JSON has no number for NaN and the infinities: they become null.
    """
    count = 0
    for shard, rows in enumerate(_parts(_checked(images), per_shard)):
        with tarfile.open(target / f"{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            written: set[str] = set()
            for row, content in rows:
                count += 1
                if row["image_id"] in written:
                    raise ValueError(f"two images have the image_id {row['image_id']!r}")
                written.add(row["image_id"])
                text = json.dumps(
                    {**MARKS, **{k: _json(v) for k, v in row.items()}}, ensure_ascii=False, allow_nan=False
                )
                members = {extension(content): content, "json": text.encode()}
                for ending, data in sorted(members.items()):
                    # What TarInfo leaves at its default is 0 or nothing: time, owner.
                    member = tarfile.TarInfo(f"{row['image_id']}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return count


def _parts(images: Iterator[tuple[Row, bytes]], size: int) -> Iterator[Iterator[tuple[Row, bytes]]]:
    """The images in parts of ``size``, each to be read to its end before the next."""
    for first in images:
        yield chain([first], islice(images, size - 1))


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def extension(content: bytes) -> str:
    """jpg, webp or png, by a file's first bytes."""
    if content.startswith(b"\xff\xd8"):
        return "jpg"
    return "webp" if content[8:12] == b"WEBP" else "png"


def _checked(images: Images) -> Iterator[tuple[Row, bytes]]:
    first: list[str] | None = None
    for row, content in images:
        if first is None:
            first = list(row)
            missing, taken = set(_NEEDED) - row.keys(), _RESERVED & row.keys()
            if missing or taken:
                raise ValueError(
                    f"a row has the columns {first}; missing: {sorted(missing)}, reserved: {sorted(taken)}"
                )
        elif list(row) != first:
            raise ValueError(f"a row has the columns {list(row)}, the first one has {first}")
        if not isinstance(row["image_id"], str) or not _ID.fullmatch(row["image_id"]):
            raise ValueError(f"image_id {row['image_id']!r} is to be a file's name: letters, digits, _ and - alone")
        yield row, content

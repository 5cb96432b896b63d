"""CelebA: the attribute list and the partition list, as the original .txt files or as .csv files.

The lists are matched by file name. Label and attribute are two of the 40 attributes, Blond_Hair and Male unless the
config says otherwise; their values stay "-1" and "1".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Fields, Metadata, SetAside
from fairsynth.data.storage import Storage
from fairsynth.data.table import check_columns, read_text, safe_path
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS

LISTS = ("list_attr_celeba", "list_eval_partition")
LIST_PLACES = ("", "celeba/", "Anno/", "Eval/", "data/")
_ALIGNED = "img_align_celeba/"
IMAGE_PLACES = (
    *(f"{above}{below}" for above in ("", "celeba/", "data/", "Img/") for below in (_ALIGNED, _ALIGNED * 2)),
    "",
)
NAME, PARTITION = "image_id", "partition"
_TRIED = 20


@dataclass
class _List:
    """One list: file name to the wanted values, and the names that are repeated without a difference."""

    path: str
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


def recognises(storage: Storage) -> bool:
    """True if both lists are there."""
    return all(_find(storage, name) for name in LISTS)


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the attribute list's order; a name in only one list is set aside.

    Raises DataError: a list or all images missing, a count that is not the number of rows, a row that is too
    short or too long, an unknown attribute, a name with two different rows, a partition other than 0, 1, 2.
    """
    fields = Fields.of(config, "Blond_Hair", "Male")
    attributes, partition = (
        _read(storage, name, needed) for name, needed in zip(LISTS, (fields.needed, (PARTITION,)), strict=True)
    )
    folder = _image_folder(storage, list(attributes.values)[:_TRIED])
    entries, quarantined = [], []
    for name, values in attributes.values.items():
        path = folder + safe_path(storage, name)
        if name not in partition.values:
            quarantined.append(SetAside(path, "no_partition", f"not in {partition.path}"))
            continue
        code = partition.values[name][0]
        if code not in ("0", "1", "2"):
            raise DataError(
                f"{storage.name(partition.path)}: the partition of {name!r} is {code!r}; "
                "allowed: 0 (train), 1 (validation), 2 (test)"
            )
        row = dict(zip(fields.needed, values, strict=True))
        entries.append(fields.entry(row, path, SPLITS[int(code)]))
    without = [name for name in partition.values if name not in attributes.values]
    quarantined += [SetAside(folder + name, "no_attributes", f"not in {attributes.path}") for name in without]
    repeated = [SetAside(folder + name, "equal_row") for name in attributes.repeated + partition.repeated]
    return Metadata(entries, quarantined, repeated, [f"read {attributes.path} and {partition.path}"])


def _find(storage: Storage, name: str) -> str:
    """Path of a list, or empty."""
    paths = (f"{place}{name}{suffix}" for place in LIST_PLACES for suffix in (".txt", ".csv"))
    return next((path for path in paths if storage.is_file(path)), "")


def _image_folder(storage: Storage, names: list[str]) -> str:
    """Where the first images of the list are."""
    for place in IMAGE_PLACES:
        if any(storage.is_file(place + safe_path(storage, name)) for name in names):
            return place
    places = ", ".join(place or "the folder itself" for place in IMAGE_PLACES)
    raise DataError(
        f"{storage.root}: none of the first images ({', '.join(names[:2])}, ...) is there; looked in {places}"
    )


def _read(storage: Storage, name: str, needed: tuple[str, ...]) -> _List:
    path = _find(storage, name)
    if not path:
        places = ", ".join(place or "the folder itself" for place in LIST_PLACES)
        raise DataError(f"{storage.root} has no {name}.txt or {name}.csv; looked in {places}")
    where, found, number = storage.name(path), _List(path), 0
    count, header, rows = _parts(where, path.endswith(".csv"), read_text(storage, path), name == LISTS[0])
    check_columns(where, header, (NAME, *needed))
    name_at, places_of = header.index(NAME), [header.index(column) for column in needed]
    for line, values in rows:
        if len(values) != len(header):
            raise DataError(f"{where}, line {line}: {len(values)} values where {len(header)} are expected")
        row = tuple(values[place] for place in places_of)
        if values[name_at] in found.values:
            if found.values[values[name_at]] != row:
                raise DataError(
                    f"{where}, line {line}: {values[name_at]!r} is there twice with different values; keep one"
                )
            found.repeated.append(values[name_at])
        found.values[values[name_at]] = row
        number += 1
    if count is not None and count != number:
        raise DataError(f"{where}, line 1: the count is {count}, but there are {number} rows; get the whole file")
    return found


def _parts(
    where: str, is_csv: bool, text: str, has_head: bool
) -> tuple[int | None, list[str], Iterator[tuple[int, list[str]]]]:
    """The count if there is one, the column names, and the rows with their lines."""
    if is_csv:
        rows = _csv_rows(where, text)
        return None, next(rows, (1, []))[1], rows
    lines = text.split("\n")
    rows = ((line, values) for line, text in enumerate(lines, start=1) if (values := text.split()))
    if not has_head:
        return None, [NAME, PARTITION], rows
    first = next(rows, (1, []))[1]
    if len(first) != 1 or not first[0].isdecimal():
        raise DataError(f"{where}, line 1: must be the number of images; it is {' '.join(first)[:80]!r}")
    return int(first[0]), [NAME, *next(rows, (2, []))[1]], rows


def _csv_rows(where: str, text: str) -> Iterator[tuple[int, list[str]]]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from ((lines.line_num, values) for values in lines if values)
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num}: not valid CSV: {error}") from None

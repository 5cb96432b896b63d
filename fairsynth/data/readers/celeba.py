"""CelebA: the attribute list and the partition list, as the original .txt files or as .csv files.

The lists are matched by file name. Label and attribute are two of the 40 attributes, Blond_Hair and Male unless the
config says otherwise; their values stay "-1" and "1".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from fairsynth.config import DataConfig
from fairsynth.config.values import plain_value
from fairsynth.data.image_names import is_image
from fairsynth.data.metadata import Fields, Found, Metadata, SetAside
from fairsynth.data.rules.split_words import CODES
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places
from fairsynth.data.tables.table import inside
from fairsynth.data.tables.text import csv_lines, text_lines
from fairsynth.errors import DataError

LISTS = ("list_attr_celeba", "list_eval_partition")
LIST_PLACES = ("", "celeba/", "Anno/", "Eval/", "data/")
_ALIGNED = "img_align_celeba/"
IMAGE_PLACES = (
    *(f"{above}{below}" for above in ("", "celeba/", "data/", "Img/") for below in (_ALIGNED, _ALIGNED * 2)),
    "",
)
NAME, PARTITION = "image_id", "partition"


@dataclass
class _List:
    """One list: file name to the wanted values, and the names that are repeated without a difference."""

    path: str
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


def recognises(storage: Storage) -> bool:
    """True if both lists are there."""
    return all(_find(storage, name) for name in LISTS)


def resembles(storage: Storage) -> bool:
    """True if one of them is."""
    return any(_find(storage, name) for name in LISTS)


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the attribute list's order; a name in only one list is set aside.

    Raises DataError: a list or all images missing, a count that is not the number of rows, an unknown attribute.
    Problems: a row that is too short or too long, a name with two different rows, a partition other than 0, 1, 2, a
    file name that leaves the dataset.
    """
    fields, found = Fields.of(config, "Blond_Hair", "Male"), Found()
    attributes, partition = (
        _read(storage, name, needed, found) for name, needed in zip(LISTS, (fields.needed, (PARTITION,)), strict=True)
    )
    folder = _image_folder(storage, attributes.values)
    for number, (name, values) in enumerate(attributes.values.items(), start=1):
        if not (path := inside(storage, name, attributes.path, number, found)):
            continue
        if name not in partition.values:
            found.quarantined.append(SetAside(folder + path, "no_partition", f"not in {partition.path}"))
            continue
        code = plain_value(partition.values[name][0])
        if code in CODES or code in config.split_names:
            row = dict(zip(fields.needed, values, strict=True))
            split = code if code in config.split_names else CODES[code]
            found.entries.append(fields.entry(row, folder + path, split))
        else:
            where, allowed = storage.name(partition.path), "0 (train), 1 (validation), 2 (test)"
            problem = f"{where}: the partition of {name!r} is {code!r}; allowed: {allowed}"
            found.refuse(folder + path, "unknown_split", problem)
    without = [name for name in partition.values if name not in attributes.values]
    found.quarantined += [SetAside(folder + name, "no_attributes", f"not in {attributes.path}") for name in without]
    found.excluded += [SetAside(folder + name, "equal_row") for name in attributes.repeated + partition.repeated]
    found.remarks.append(f"read {attributes.path} and {partition.path}")
    return found.metadata


def _find(storage: Storage, name: str) -> str:
    """Path of a list, or empty."""
    paths = (f"{place}{name}{suffix}" for place in LIST_PLACES for suffix in (".txt", ".csv"))
    return next((path for path in paths if storage.is_file(path)), "")


def _image_folder(storage: Storage, names: Collection[str]) -> str:
    """Where most of the listed images are, however few of them were fetched."""
    wanted = set(names)
    stems = {*map(_stem, wanted)}
    there = {place: storage.names(place) for place in IMAGE_PLACES}
    held = {place: len(wanted.intersection(there[place])) for place in IMAGE_PLACES}
    # Converted to another format: the reason why the listed ones are missing is told by whoever looks for them.
    alike = {p: len(stems.intersection(_stem(n) for n in there[p] if is_image(n))) for p in IMAGE_PLACES}
    best = max(IMAGE_PLACES, key=lambda place: (held[place], alike[place]))
    if held[best] or alike[best]:
        return best
    looked = ", ".join(place or "the folder itself" for place in IMAGE_PLACES)
    first = ", ".join([*names][:2])
    raise DataError(
        f"{storage.root}: none of the listed images ({first}, ...) is there; looked in {looked}; put them into {storage.root}/img_align_celeba"
    )


def _stem(name: str) -> str:
    """As ``PurePath.stem``, for many names."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[:dot] if 0 < dot < len(last) - 1 else last


def _read(storage: Storage, name: str, needed: tuple[str, ...], told: Found) -> _List:
    """One list; its rows that cannot be used are set aside in ``told``."""
    path = _find(storage, name)
    if not path:
        looked = ", ".join(place or "the folder itself" for place in LIST_PLACES)
        raise DataError(
            f"{storage.root} has no {name}.txt or {name}.csv; looked in {looked}; put it there, as the dataset's authors give it"
        )
    where, found, number = storage.name(path), _List(path), 0
    count, header, rows = _parts(
        where,
        path.endswith(".csv"),
        text_lines(storage, path, newline="" if path.endswith(".csv") else "\n"),
        name == LISTS[0],
    )
    at = places(where, header, (NAME, *needed))
    name_at, places_of = at[NAME], [at[column] for column in needed]
    for line, values in rows:
        number += 1
        if len(values) != len(header):
            problem = f"{where}, line {line}: {len(values)} values where {len(header)} are expected"
            told.refuse(f"{path}, line {line}", "malformed_row", problem)
            continue
        row = tuple(values[place] for place in places_of)
        if values[name_at] in found.values:
            if found.values[values[name_at]] != row:
                problem = f"{where}, line {line}: {values[name_at]!r} is there twice with different values; keep one"
                told.refuse(f"{path}, line {line}", "different_rows", problem)
                continue
            found.repeated.append(values[name_at])
        found.values[values[name_at]] = row
    if count is not None and count != number:
        raise DataError(f"{where}, line 1: the count is {count}, but there are {number} rows; get the whole file")
    return found


def _parts(
    where: str, is_csv: bool, lines: Iterator[str], has_head: bool
) -> tuple[int | None, list[str], Iterator[tuple[int, list[str]]]]:
    """The count if there is one, the column names, and the rows with their lines."""
    if is_csv:
        rows = ((line.number, line.values) for line in csv_lines(where, lines))
        return None, next(rows, (1, []))[1], rows
    rows = ((line, values) for line, text in enumerate(lines, start=1) if (values := text.split()))
    if not has_head:
        return None, [NAME, PARTITION], rows
    first = next(rows, (1, []))[1]
    if len(first) != 1 or not first[0].isdecimal():
        raise DataError(f"{where}, line 1: must be the number of images; it is {' '.join(first)[:80]!r}")
    return int(first[0]), [NAME, *next(rows, (2, []))[1]], rows

"""Reads metadata tables as text: CSV, JSON lines or Parquet."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from fairsynth.config.values import brief
from fairsynth.data.metadata import Found
from fairsynth.data.pointers import absence_hint
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places, present, value_of
from fairsynth.data.tables.parquet_file import LONGEST_CELL, batches, check_plain, parquet_file, text_columns
from fairsynth.data.tables.text import csv_header, csv_lines, first_line, text_lines
from fairsynth.errors import DataError

Row = dict[str, str]
# Columns of a table, and fields of an object.
_MOST_COLUMNS = 10_000
# Columns by which the separator of a table is known before its reader is.
_USUAL = ("file_name", "filename", "file", "label", "attribute", "split", "img_filename", "place", "y")
_LOOK_CLOSER = ("//", "/.", ":", "\\", "\0")


def read_table(
    storage: Storage, path: str, needed: Sequence[str], found: Found, optional: Sequence[str] = ()
) -> Iterator[tuple[int, Row]]:
    """The rows of a .jsonl, .parquet or else CSV table as text, numbered as people count them.

    A row has the needed columns, and those of the optional ones that are there; they are found by ``columns.places``. A
    missing value is the empty text. Rows that cannot be read are set aside in ``found`` with a problem.
    Raises DataError: no file, not readable, a needed column missing or there twice, no rows.
    """
    if not storage.is_file(path):
        where = storage.name(path)
        hint = absence_hint(storage.full(path), str(storage.local)) if storage.local is not None else ""
        raise DataError(
            f"{where} does not exist; {hint or 'it must have the columns ' + ', '.join(dict.fromkeys(needed))}"
        )
    number = 0
    for number, row in _reader(path)(storage, path, needed, optional, found):
        yield number, row
    if not number and not found.quarantined:
        raise DataError(
            f"{storage.name(path)} has no rows; it must have one for each image: {', '.join(dict.fromkeys(needed))}"
        )


def _reader(path: str) -> Callable[[Storage, str, Sequence[str], Sequence[str], Found], Iterator[tuple[int, Row]]]:
    return {"jsonl": _read_jsonl, "parquet": _read_parquet}.get(path.rsplit(".", 1)[-1].lower(), _read_csv)


def column_names(storage: Storage, path: str) -> list[str]:
    """Names of a table's columns; of JSON lines, those of the first. Raises DataError if they cannot be read."""
    kind = path.rsplit(".", 1)[-1].lower()
    if kind == "parquet":
        with parquet_file(storage, path) as file:
            names = list(file.schema_arrow.names)
    elif kind == "jsonl":
        start = first_line(storage, path).lstrip()
        names = list(read_object(storage.name(path), start.split("\n", 1)[0], ())) if start else []
    else:
        names = csv_header(storage, path, _USUAL)
    if len(names) > _MOST_COLUMNS:
        raise DataError(
            f"{storage.name(path)} has {len(names):,} columns; {_MOST_COLUMNS:,} may be; leave out what is no metadata"
        )
    return names


def _read_csv(
    storage: Storage, path: str, needed: Sequence[str], optional: Sequence[str], found: Found
) -> Iterator[tuple[int, Row]]:
    where = storage.name(path)
    lines = csv_lines(where, text_lines(storage, path, newline=""), needed)
    header = next(lines, None)
    names = header.values if header else []
    at, width = places(where, names, [*needed, *present(names, optional)]), len(names)
    for number, line in enumerate(lines, start=2):
        if len(line.values) == width:
            yield number, {column: line.values[place] for column, place in at.items()}
        else:
            relation = "fewer" if len(line.values) < width else "more"
            what = f"{where}, line {line.number}: {relation} values than columns"
            found.refuse(f"{path}, line {line.number}", "malformed_row", what)


def _read_jsonl(
    storage: Storage, path: str, needed: Sequence[str], optional: Sequence[str], found: Found
) -> Iterator[tuple[int, Row]]:
    where, seen = storage.name(path), dict[str, None]()
    for number, line in enumerate(text_lines(storage, path), start=1):
        if not line.strip():
            continue
        try:
            row = read_object(f"{where}, line {number}", line, (*needed, *optional))
        except DataError as error:
            found.refuse(f"{path}, line {number}", "malformed_row", str(error))
            continue
        seen |= dict.fromkeys(row)
        yield number, {column: value_of(row, column) or "" for column in (*needed, *optional)}

    if seen:  # a row may lack what others have
        places(where, list(seen), needed)


def read_object(where: str, text: str, needed: Sequence[str]) -> Row:
    """The fields of a JSON object: the needed ones as text, the others empty.

    Raises DataError, with ``where``, for anything else than an object, and for a needed field that holds several values.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
        if not isinstance(value, dict):
            raise DataError(f"{where}: must be an object such as {{'file_name': ...}}")
        if len(value) > _MOST_COLUMNS:
            raise DataError(f"{where}: {len(value):,} fields; {_MOST_COLUMNS:,} may be; leave out what is no metadata")
        row = dict.fromkeys(value, "")
        row |= {
            name: as_text(value_of(value, name), f"{where}: {name}")
            for name in needed
            if value_of(value, name) is not None
        }
        "".join([*row, *row.values()]).encode()  # JSON can write halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {str(error)[:200]}") from None
    return row


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _read_parquet(
    storage: Storage, path: str, needed: Sequence[str], optional: Sequence[str], found: Found
) -> Iterator[tuple[int, Row]]:
    where, number = storage.name(path), 0
    with parquet_file(storage, path) as file:
        schema = file.schema_arrow
    at = places(where, schema.names, [*needed, *present(schema.names, optional)])
    columns = {column: schema.names[place] for column, place in at.items()}
    check_plain(where, schema, [*columns.values()])
    with parquet_file(storage, path, text_columns(schema, [*columns.values()])) as file:
        most = file.metadata.num_rows
        for values in batches(where, file, [*columns.values()], most=most):
            for of_row in zip(*(values[name] for name in columns.values()), strict=True):
                number += 1
                try:
                    row = {
                        c: as_text(value, f"{where}, row {number}: {c}")
                        for c, value in zip(columns, of_row, strict=True)
                    }
                except (DataError, UnicodeDecodeError) as error:
                    found.refuse(f"{path}, row {number}", "malformed_row", str(error))
                    continue
                yield number, row


def as_text(value: Any, where: str) -> str:
    """A value as text: None and NaN are empty, whole numbers have no point, booleans are true and false.

    Raises DataError, with ``where``, for a list or an object.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, list | dict | tuple):
        raise DataError(f"{where} is {'an object' if isinstance(value, dict) else 'a list'}; one value is needed")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8")
    text = value if isinstance(value, str) else str(value)
    if len(text) > LONGEST_CELL:
        raise DataError(f"{where} has {len(text):,} characters; {LONGEST_CELL:,} may be; is it the right column?")
    return text


def safe_path(storage: Storage, name: str) -> str:
    """A relative path that stays inside the dataset. Raises DataError for any other."""
    if name and name[0] not in "/." and name[-1] != "/" and not any(part in name for part in _LOOK_CLOSER):
        return name  # nearly all: a check by pathlib costs more than reading the row
    pure = PurePosixPath(name)
    absolute = pure.is_absolute() or PureWindowsPath(name).is_absolute() or os.path.isabs(name)
    if not name or absolute or "://" in name or "\0" in name or ".." in pure.parts or not pure.parts:
        raise DataError(
            f"file name {brief(name)} must be a relative path inside {storage.root}, such as train/0001.jpg"
        )
    return pure.as_posix()


def inside(storage: Storage, name: str, table: str, number: int, found: Found) -> str:
    """The same, but an unsafe name is set aside as a problem of a table's row; the path is then empty."""
    try:
        return safe_path(storage, name)
    except DataError as error:
        where = f"{storage.name(table)}, row {number}"
        found.refuse(name or where, "outside_root", f"{error} ({where})")
        return ""

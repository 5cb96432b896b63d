"""Reads metadata tables as text: CSV, JSON lines or Parquet; nothing is guessed, nothing renamed."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.data.storage import Storage
from fairsynth.errors import DataError

Row = dict[str, str]
# What can be raised by reading a file that is damaged or no Parquet.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
_HEAD = 1 << 20


def read_table(storage: Storage, path: str, needed: Sequence[str]) -> list[Row]:
    """All rows of a .csv, .jsonl or .parquet table as text; a missing value is the empty text.

    Other columns than the needed ones may be left out of the rows.
    Raises DataError: no file, not UTF-8, malformed, a needed column missing or named twice, a row too
    short or too long, no rows.
    """
    if not storage.is_file(path):
        raise DataError(f"{storage.name(path)} does not exist; it must have the columns {', '.join(needed)}")
    readers: dict[str, Callable[[Storage, str, Sequence[str]], list[Row]]] = {
        "jsonl": _read_jsonl,
        "parquet": _read_parquet,
    }
    rows = readers.get(path.rsplit(".", 1)[-1], _read_csv)(storage, path, needed)
    if not rows:
        raise DataError(f"{storage.name(path)} has no rows")
    return rows


def column_names(storage: Storage, path: str) -> list[str]:
    """Names of a table's columns (of JSON lines: the first line's); empty if none can be read."""
    try:
        if path.endswith(".parquet"):
            with storage.open(path) as handle:
                return list(pq.read_schema(handle).names)
        with storage.open(path) as handle:
            first = handle.read(1 << 20).decode("utf-8-sig", "replace")
        if path.endswith(".jsonl"):
            value = json.loads(first.lstrip().split("\n", 1)[0])
            return [str(key) for key in value] if isinstance(value, dict) else []
        return next(csv.reader(io.StringIO(first, newline="")), [])
    except (ValueError, csv.Error, pa.ArrowException, OSError, DataError):
        return []


def read_text(storage: Storage, path: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises DataError with the line that is not UTF-8."""
    content = storage.content(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{storage.name(path)} is not UTF-8 (line {line}); save it as UTF-8") from None


def _read_csv(storage: Storage, path: str, needed: Sequence[str]) -> list[Row]:
    where = storage.name(path)
    # Strict: a quote that is never closed would otherwise swallow all lines after it.
    lines = csv.reader(io.StringIO(read_text(storage, path), newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = next(lines, [])
        check_columns(where, header, needed)
        places = {column: header.index(column) for column in needed}
        for values in lines:
            if not values:
                continue  # an empty line
            if len(values) != len(header):
                relation = "fewer" if len(values) < len(header) else "more"
                raise DataError(f"{where}, line {lines.line_num}: {relation} values than columns")
            rows.append({column: values[place] for column, place in places.items()})
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num}: not valid CSV: {error}") from None
    return rows


def _read_jsonl(storage: Storage, path: str, needed: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    where, columns = storage.name(path), dict.fromkeys(needed)
    for number, line in enumerate(read_text(storage, path).split("\n"), start=1):
        if not line.strip():
            continue
        value = read_object(f"{where}, line {number}", line)
        if not rows:
            check_columns(where, list(value), needed)
        rows.append({column: "" for column in columns} | value)
    return rows


def read_object(where: str, text: str) -> Row:
    """The fields of a JSON object as text. Raises DataError, with ``where``, for anything else."""
    try:
        value = json.loads(text)
        row = {key: as_text(item) for key, item in value.items()} if isinstance(value, dict) else None
        "".join([*row, *row.values()] if row else []).encode()  # JSON can write halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {str(error)[:200]}") from None
    if row is None:
        raise DataError(f"{where}: must be an object such as {{'file_name': ...}}")
    return row


def _read_parquet(storage: Storage, path: str, needed: Sequence[str]) -> list[Row]:
    where = storage.name(path)
    try:
        with storage.open(path) as handle:
            file = pq.ParquetFile(handle)
            check_columns(where, file.schema_arrow.names, needed)
            rows = file.read(columns=list(dict.fromkeys(needed))).to_pylist()
    except UNREADABLE as error:
        raise DataError(f"{where} is not a readable Parquet file: {' '.join(str(error).split())[:200]}") from None
    return [{name: as_text(value) for name, value in row.items()} for row in rows]


def columns(storage: Storage, path: str) -> list[str]:
    """The column names of a table, read from its start; none if it is missing or unreadable."""
    if not storage.is_file(path):
        return []
    try:
        with storage.open(path) as handle:
            if path.endswith(".parquet"):
                return list(pq.ParquetFile(handle).schema_arrow.names)
            start = handle.read(_HEAD).decode("utf-8-sig", "replace")
        if path.endswith(".jsonl"):
            return list(read_object(path, start.lstrip().split("\n", 1)[0]))
        return next(csv.reader(io.StringIO(start, newline="")), [])
    except (*UNREADABLE, csv.Error, DataError):
        return []


def as_text(value: Any) -> str:
    """A value as text: None and NaN are empty, whole numbers have no point, booleans are true and false."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def check_columns(where: str, found: Sequence[str], needed: Sequence[str]) -> None:
    """Raise DataError if a needed column is missing or repeated, with a guess at what was meant."""
    for column in needed:
        if column not in found:
            near = difflib.get_close_matches(column, found, n=1, cutoff=0.6)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{where} has no column {column!r}{guess}; it has: {', '.join(found) or 'none'}; needed: {', '.join(needed)}"
            )
        if list(found).count(column) > 1:
            raise DataError(f"{where} has the column {column!r} {list(found).count(column)} times; keep one")


def safe_path(storage: Storage, name: str) -> str:
    """A relative path that stays inside the dataset. Raises DataError for any other."""
    pure = PurePosixPath(name)
    absolute = pure.is_absolute() or PureWindowsPath(name).is_absolute() or os.path.isabs(name)
    if not name or absolute or "://" in name or "\0" in name or ".." in pure.parts or not pure.parts:
        raise DataError(f"file name {name!r} must be a relative path inside {storage.root}")
    return pure.as_posix()

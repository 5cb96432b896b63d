"""What the columns of a table seem to hold, so that messages and init can name them: file names, splits, the rest."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import yaml

from fairsynth.data.metadata import Found
from fairsynth.data.rules.split_words import DROP, meaning, split_meant
from fairsynth.data.storage import Storage
from fairsynth.data.tables.parquet_file import parquet_file
from fairsynth.data.tables.table import Row, column_names, read_table, safe_path
from fairsynth.errors import DataError

# So many rows are looked at to know whether a column names files, or is a label.
SAMPLE, _ROWS = 20, 1000
# Into so many tables of other names one looks for a hint.
_TABLES = 5
# More values are no label.
_MOST_VALUES = 40


@dataclass(frozen=True)
class Guess:
    """Tables with the same columns: that of the file names and that of the splits (empty: none), and the rest."""

    tables: tuple[str, ...]
    file_column: str
    split_column: str
    rest: tuple[str, ...]

    def command(self) -> str:
        """The settings that read it, with label and attribute to choose."""
        options = yaml.safe_dump(
            {"table": self.tables[0] if len(self.tables) == 1 else [*self.tables], "file_column": self.file_column},
            default_flow_style=True,
            width=10**9,
            sort_keys=False,
        )
        split = f" --data.split_column {shlex.quote(self.split_column)}" if self.split_column else ""
        return (
            f"--data.format folder --data.options {shlex.quote(options.strip())}{split} --data.label_column COLUMN "
            "--data.attribute_column COLUMN"
        )


def guessed(storage: Storage, tables: Sequence[str]) -> Guess | None:
    """The first of the tables that names files which are there, with all that have its columns; None if none does."""
    return next((known for table in tables[:_TABLES] if (known := _guessed(storage, table, tables))), None)


def _guessed(storage: Storage, table: str, others: Sequence[str]) -> Guess | None:
    try:
        names = file_column(storage, table)
        if not names:
            return None
        columns = _plain(storage, table)
        alike = [other for other in others if other == table or _plain(storage, other) == columns]
        split = next(iter(split_columns(storage, alike, [names])), "")
        return Guess(tuple(alike), names, split, tuple(c for c in columns if c not in (names, split)))
    except DataError:
        return None


def file_column(storage: Storage, table: str) -> str:
    """The column of which most values are files of the dataset, the first rows looked at; empty if there is none.

    Raises DataError for a table that cannot be read.
    """
    columns = _plain(storage, table)
    rows = [*islice(_rows(storage, table, columns), SAMPLE)]
    there = {column: there_of(storage, [row[column] for row in rows]) for column in columns}
    best = max(columns, key=lambda column: there[column], default="")
    return best if best and 2 * there[best] > len(rows) else ""


def there_of(storage: Storage, names: Sequence[str]) -> int:
    """How many of these names are files of the dataset."""
    return sum(_is_there(storage, name) for name in names)


def _is_there(storage: Storage, name: str) -> bool:
    try:
        return storage.is_file(safe_path(storage, name.replace("\\", "/")))
    except DataError:
        return False


def split_columns(
    storage: Storage, tables: Sequence[str], used: Collection[str], names: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Columns, other than those in use, of which all values are words for splits, two at least; with their words.

    A misspelt word counts beside right ones. A column must be so in all the tables. ``names``: ``data.split_names``.
    """
    found: dict[str, dict[str, None]] | None = None
    for table in tables:
        words = _split_words(storage, table, used, names or {})
        found = words if found is None else {c: found[c] | words[c] for c in found if c in words}
    two = {
        c: [*words]
        for c, words in (found or {}).items()
        if len({meaning(w, names or {}) for w in words} - {None, DROP}) > 1
    }
    return two


def _split_words(
    storage: Storage, table: str, used: Collection[str], names: Mapping[str, str]
) -> dict[str, dict[str, None]]:
    try:
        columns: dict[str, dict[str, None]] = {c: {} for c in _plain(storage, table) if c not in used}
        for row in _rows(storage, table, [*columns]) if columns else ():
            for column in [*columns]:
                word = row[column].strip()
                if not word or word in columns[column]:
                    continue
                if meaning(word, names) or split_meant(word):
                    columns[column][word] = None
                else:
                    del columns[column]
            if not columns:
                break
        return columns
    except DataError:
        return {}


def label_columns(storage: Storage, table: str, columns: Sequence[str]) -> list[str]:
    """Those of the columns that have few values, two at least, each of them several times on average: labels or attributes."""
    rows = [*islice(_rows(storage, table, columns), _ROWS)]
    values = {column: {row[column].strip() for row in rows} - {""} for column in columns}
    return [c for c in columns if 2 <= len(values[c]) <= min(_MOST_VALUES, len(rows) / 2)]


def _plain(storage: Storage, table: str) -> list[str]:
    """Columns that are there once and hold no images or lists."""
    header = column_names(storage, table)
    if table.lower().endswith(".parquet"):
        try:
            with parquet_file(storage, table) as file:
                schema = file.schema_arrow
        except DataError:
            return []
        header = [
            f.name
            for f in schema
            if not (pa.types.is_nested(f.type) or pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type))
        ]
    return [name for name in header if name and header.count(name) == 1]


def _rows(storage: Storage, table: str, columns: Sequence[str]) -> Iterator[Row]:
    return (row for _, row in read_table(storage, table, columns, Found()))

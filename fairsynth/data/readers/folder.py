"""A Hugging Face image folder: a metadata table with file_name, label, attribute and split.

The table is metadata.csv, metadata.jsonl or metadata.parquet: one at the root, or one in each split's folder
(train/, validation/, test/), whose file names count from there.
"""

from __future__ import annotations

from collections.abc import Iterator

from fairsynth.config import DataConfig
from fairsynth.data.layout import TABLES, known_split, split_folders
from fairsynth.data.metadata import Entry, Fields, Metadata, split_of
from fairsynth.data.storage import Storage
from fairsynth.data.table import columns, read_table, safe_path
from fairsynth.errors import DataError

NAME = "file_name"


def recognises(storage: Storage) -> bool:
    """True for a metadata table with a file_name, at the root or in a split's folder."""
    folders = ["", *(f"{name}/" for name in split_folders(storage))]
    return any(NAME in columns(storage, folder + table) for folder in folders for table in TABLES)


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the tables' order.

    Raises DataError: no table, tables both at the root and in split folders, two tables in one folder, a
    missing column, an unknown split, a file name that leaves the dataset.
    """
    fields = Fields.of(config, "label", "attribute")
    at_root = _table(storage, "")
    inside = [(name, table) for name in split_folders(storage) if (table := _table(storage, f"{name}/"))]
    if at_root and inside:
        raise DataError(
            f"{storage.root} has the tables {at_root} and {inside[0][1]}; keep the one, or those in the splits"
        )
    if not at_root and not inside:
        raise DataError(
            f"{storage.root} has no metadata table; it must hold {', '.join(TABLES[:-1])} or {TABLES[-1]} with the columns "
            f"{', '.join((NAME, *fields.needed))}, {config.split_column}, or such a table in each of train/, validation/, test/"
        )
    if at_root:
        return Metadata(list(_with_column(storage, config, fields, at_root)))
    return Metadata([entry for folder, table in inside for entry in _in_folder(storage, fields, folder, table)])


def _table(storage: Storage, folder: str) -> str:
    """Path of the folder's metadata table, or empty."""
    found = [folder + name for name in TABLES if storage.is_file(folder + name)]
    if len(found) > 1:
        raise DataError(f"{storage.root} has more than one metadata table in one folder: {', '.join(found)}; keep one")
    return found[0] if found else ""


def _with_column(storage: Storage, config: DataConfig, fields: Fields, table: str) -> Iterator[Entry]:
    column = config.split_column
    # A column that was asked for by another name than the usual one must be there.
    asked = column != DataConfig().split_column and column != ""
    has_split = asked or column in columns(storage, table)
    needed = (NAME, *fields.needed, *((column,) if has_split else ()))
    first = 2 if table.endswith(".csv") else 1
    for number, row in enumerate(read_table(storage, table, needed), start=first):
        # JSON lines may have a field that the first line lacks.
        word = row.get(column, "")
        split = known_split(f"{storage.name(table)}, row {number}", word) if has_split or word else ""
        yield fields.entry(row, safe_path(storage, row[NAME]), split)


def _in_folder(storage: Storage, fields: Fields, folder: str, table: str) -> Iterator[Entry]:
    for row in read_table(storage, table, (NAME, *fields.needed)):
        yield fields.entry(row, f"{folder}/{safe_path(storage, row[NAME])}", split_of(folder) or "")

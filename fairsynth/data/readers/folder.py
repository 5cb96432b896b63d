"""A Hugging Face image folder: a metadata table with file_name, label, attribute and split.

The table is metadata.csv, .tsv, .jsonl or .parquet: one at the root, or one in each split's folder (train/,
validation/, test/), whose file names count from there. Tables of other names are read if ``data.options.table`` names
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator

from fairsynth.config import DataConfig, Section
from fairsynth.config.suggest import did_you_mean
from fairsynth.config.values import spelled
from fairsynth.data.layout import NO_NAMES, TABLES, is_table, shard_split, split_folders
from fairsynth.data.metadata import Fields, Found, Metadata
from fairsynth.data.rules.split_words import meaning
from fairsynth.data.storage import Storage
from fairsynth.data.tables.class_labels import Codes
from fairsynth.data.tables.columns import places, present
from fairsynth.data.tables.guess import SAMPLE, guessed, there_of
from fairsynth.data.tables.guess import file_column as names_files
from fairsynth.data.tables.table import column_names, inside, read_table, safe_path
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

NAME = "file_name"
# Other names of that column; Hugging Face allows any that ends so.
_NAMES = (NAME, "filename", "file")
_ENDING = "_file_name"
_TABULAR = (".csv", ".tsv", ".jsonl", ".parquet")

HAS_SPLIT_COLUMN = True


class Options(Section):
    """Settings of this format (``data.options``)."""

    table: Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)] = ()
    """Metadata tables by other names than metadata.csv: one path or several, from the dataset's folder. Where a table has no column of the split, the words of its name say it."""
    file_column: str = ""
    """Column with the images' file names; empty: file_name, filename, file, or the only one that ends in _file_name."""


def recognises(storage: Storage) -> bool:
    """True for a readable metadata table that names files, at the root or in a split's folder."""
    for table in _tables(storage):
        try:
            if file_column(column_names(storage, table)):
                return True
        except DataError:
            continue
    return False


def resembles(storage: Storage) -> bool:
    """True if there is such a table, whatever is wrong with it."""
    return bool(_tables(storage))


def hint(storage: Storage) -> str:
    """How tables of other names are read, if there are any at the root."""
    others = [name for name in storage.names() if name.lower().endswith(_TABULAR) and not is_table(name)]
    if not others:
        return ""
    guess = guessed(storage, others)
    if guess is not None:
        choice = f" (COLUMN: one of {enumerated(guess.rest)})" if guess.rest else ""
        what = f"{enumerated(guess.tables, most=3)} name{'s' if len(guess.tables) == 1 else ''} the images"
        return f"{what}: {guess.command()}{choice}"
    named = others[0] if len(others) == 1 else f"[{', '.join(others[:3])}]"
    return (
        "if a table names the images: --data.format folder "
        f"--data.options '{{table: {named}, file_column: COLUMN}}' --data.split_column COLUMN --data.label_column COLUMN "
        "--data.attribute_column COLUMN"
    )


def file_column(header: Sequence[str]) -> str:
    """The column that names the files; empty if none does, or several."""
    plain = [spelled(name) for name in header]
    for usual in _NAMES:
        if usual in plain:
            return header[plain.index(usual)]
    ends = [name for name, spelling in zip(header, plain, strict=True) if spelling.endswith(_ENDING)]
    return ends[0] if len(ends) == 1 else ""


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the tables' order.

    Raises DataError: no table, tables both at the root and in split folders, two tables in one folder, a missing
    column. Problems: rows that cannot be read, file names that leave the dataset.
    """
    options, fields, found = Options.model_validate(config.options), Fields.of(config, "label", "attribute"), Found()
    tables = tables_of(storage, config)
    if not tables:
        raise DataError(
            f"{storage.root} has no metadata table; it must hold {', '.join(TABLES[:-1])} or {TABLES[-1]} with the columns "
            f"{', '.join((NAME, *fields.needed))}, {config.split_column}, or such a table in each of train/, validation/, test/"
        )
    for table in tables:
        _read(storage, config, options, fields, table, found)
    return found.metadata


def tables_of(storage: Storage, config: DataConfig) -> list[str]:
    """Paths of the metadata tables to read; none if there is none.

    Raises DataError: tables both at the root and in split folders, two tables in one folder, a named one that is not there.
    """
    options = Options.model_validate(config.options)
    tables = [_there(storage, safe_path(storage, table)) for table in options.table]
    tables = tables or _tables(storage, config.split_names)
    if tables and not options.table:
        _check_places(storage, tables)
    return tables


def _there(storage: Storage, table: str) -> str:
    """The path itself. Raises DataError if there is no such table."""
    if storage.is_file(table):
        return table
    folder = table[: table.rfind("/") + 1]
    tables = [folder + name for name in storage.names(folder) if name.lower().endswith(_TABULAR)]
    raise DataError(
        f"the table {table!r} is not in {storage.root}{did_you_mean(table, tables)}; tables there: {enumerated(tables) or 'none'}; "
        "name one: --data.options.table TABLE"
    )


def _check_names(storage: Storage, table: str, column: str, paths: Sequence[str]) -> None:
    """Raise DataError if most of the first paths are no files, and another column's are: the wrong one was taken."""
    if 2 * there_of(storage, paths) >= len(paths):
        return
    right = names_files(storage, table)
    if right and right != column:
        raise DataError(
            f"column {column!r} of {storage.name(table)} names no files that are there (first: {paths[0]!r}), but column {right!r} "
            f"does: --data.options.file_column {shlex.quote(right)}"
        )


def _tables(storage: Storage, names: Mapping[str, str] = NO_NAMES) -> list[str]:
    """Paths of the metadata tables, by their names; ``names``: further words for splits."""
    folders = ("", *(f"{name}/" for name in split_folders(storage, names)))
    return [folder + name for folder in folders for name in storage.names(folder) if is_table(name)]


def _check_places(storage: Storage, tables: Sequence[str]) -> None:
    """Raise DataError unless there is one table at the root, or one in each of some split folders."""
    folders = [table.rpartition("/")[0] for table in tables]
    for folder in dict.fromkeys(folders):
        same = [table for table in tables if table.rpartition("/")[0] == folder]
        if len(same) > 1:
            raise DataError(
                f"{storage.root} has more than one metadata table in one folder: {', '.join(same)}; keep one"
            )
    if "" in folders and len(folders) > 1:
        raise DataError(
            f"{storage.root} has the tables {tables[0]} and {tables[1]}; keep the one, or those in the splits"
        )


def _read(storage: Storage, config: DataConfig, options: Options, fields: Fields, table: str, found: Found) -> None:
    header = column_names(storage, table)
    name_column = _name_column(storage.name(table), header, options, found)
    in_folder = "" if options.table else table.rpartition("/")[0]
    codes, column = Codes.of_table(storage, table, fields), config.split_column
    asked = (column,) if config.other_split_column else ()
    has_split = bool(column) and (bool(asked) or bool(present(header, (column,))))
    beside = shard_split(table, config.split_names) if in_folder or (options.table and not has_split) else ""
    optional, start = (column,) if column else (), len(found.entries)
    for number, row in read_table(storage, table, (name_column, *fields.needed, *asked), found, optional):
        path = inside(storage, row[name_column], table, number, found)
        if not path:
            continue
        path, said = f"{in_folder}/{path}" if in_folder else path, row.get(column, "").strip()
        if in_folder and said and meaning(said, config.split_names) != meaning(beside, config.split_names):
            problem = f"{storage.name(table)}, row {number}: the split is {said!r} in the folder of {beside!r}; say one of them"
            found.refuse(path, "two_splits", problem)
        else:
            found.entries.append(fields.entry(codes.known(row), path, said or beside))
    if not in_folder:
        _check_names(storage, table, name_column, [entry.path for entry in found.entries[start : start + SAMPLE]])
    found.name_values(codes.words, table)


def _name_column(where: str, header: Sequence[str], options: Options, found: Found) -> str:
    """The column that names the files. Raises DataError if nobody can know it."""
    name = options.file_column or file_column(header)
    if not name:
        places(
            f"{where}", header, (NAME,), "; if another column names the files: --data.options '{file_column: COLUMN}'"
        )
    remark = f"column {name!r} is taken as {NAME}"
    if spelled(name) != NAME and not options.file_column and remark not in found.remarks:
        found.remarks.append(remark)
    return name

"""The kinds of rows of large tables: which values of split, label and attribute stand together, and how often."""

from __future__ import annotations

from collections import Counter

from fairsynth.config import DataConfig
from fairsynth.data.layout import shard_split
from fairsynth.data.metadata import Entry, Fields
from fairsynth.data.readers import folder, waterbirds
from fairsynth.data.rules.split_words import CODES, meaning
from fairsynth.data.storage import Storage
from fairsynth.data.tables.class_labels import Codes
from fairsynth.data.tables.columns import present
from fairsynth.data.tables.parquet_file import parquet_file
from fairsynth.data.tables.table import column_names
from fairsynth.data.tables.tally import tally

# From this size on, in bytes, a table is counted by its columns: some 200,000 rows.
LARGE_TEXT, LARGE_PARQUET = 8_000_000, 1_000_000
FORMATS = ("folder", "waterbirds")
Words = dict[str, dict[str, str]]


def kinds_of_rows(name: str, storage: Storage, data: DataConfig) -> tuple[Counter[Entry], Words] | None:
    """An entry without path for each kind of row, with its number; and the words that the tables give.

    None unless there is a large table, and all of them are plain. Raises DataError as the reader of ``name``.
    """
    weights, words = Counter[Entry](), Words()
    tables = [waterbirds.TABLE] if name == "waterbirds" else _tables(storage, data)
    if not tables or not any(_large(storage, table) for table in tables):
        return None
    fields = Fields.of(data, "y", "place") if name == "waterbirds" else Fields.of(data, "label", "attribute")
    for table in tables:
        found = _of_table(name, storage, data, fields, table)
        if found is None:
            return None
        weights.update(found[0])
        for what, named in found[1].items():
            known = words.setdefault(what, {})
            if any(known.setdefault(value, word) != word for value, word in named.items()):
                return None
    return weights, words


def _of_table(
    name: str, storage: Storage, data: DataConfig, fields: Fields, table: str
) -> tuple[Counter[Entry], Words] | None:
    birds, header = name == "waterbirds", column_names(storage, table)
    splits = ["split"] if birds else present(header, (data.split_column,))
    names = waterbirds.COLUMNS[:1] if birds else present(header, (folder.file_column(header) or folder.NAME,))
    counts = tally(storage, table, (*fields.needed, *splits))
    if counts is None or not names:
        return None
    codes, weights = Codes.of_table(storage, table, fields), Counter[Entry]()
    beside = shard_split(table, data.split_names) if "/" in table else ""
    for values, n in counts.items():
        row = dict(zip((*fields.needed, *splits), values, strict=True))
        said = row[splits[0]].strip() if splits else ""
        if beside and said and meaning(said, data.split_names) != meaning(beside, data.split_names):
            return None
        split = CODES.get(said, said) if birds and said not in data.split_names else said or beside
        weights[fields.entry(codes.known(row), "", split)] += n
    return weights, codes.words


def _tables(storage: Storage, data: DataConfig) -> list[str]:
    """The tables of an image folder; none where options say which, and what is in them."""
    return [] if data.options else folder.tables_of(storage, data)


def _large(storage: Storage, table: str) -> bool:
    with storage.open(table) as handle:
        size: int = handle.size()
    if not table.endswith(".parquet"):
        return size > LARGE_TEXT
    with parquet_file(storage, table) as file:
        return size > LARGE_PARQUET or file.metadata.num_rows > LARGE_TEXT / 40

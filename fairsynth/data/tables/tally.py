"""Counts a metadata table's rows by the values of some columns, in a stream: no row becomes an object.

For tables of millions of rows, where reading every row takes minutes and gigabytes. What is not plain (another separator
or encoding, a row of another length, a column of lists) is left to whoever reads every row.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places
from fairsynth.data.tables.parquet_file import UNREADABLE, check_plain, parquet_file, text_columns
from fairsynth.data.tables.table import as_text
from fairsynth.data.tables.text import first_line
from fairsynth.errors import DataError

Tally = Counter[tuple[str, ...]]
_TEXT = pa.dictionary(pa.int32(), pa.string())
_BLOCK, _ROWS = 1 << 22, 1 << 20
_MOST_KINDS = 10_000


def tally(storage: Storage, path: str, columns: Sequence[str]) -> Tally | None:
    """Rows by the columns' values, as text; None for a table that is not plain, or has more than 10,000 combinations.

    The counts are those of ``read_table`` for a table in which it finds no fault.
    """
    kind = path.rsplit(".", 1)[-1].lower()
    if kind not in ("csv", "parquet"):
        return None
    counts: Tally = Counter()
    try:
        for batch in (_csv if kind == "csv" else _parquet)(storage, path, columns):
            counts.update(_counted(batch))
            if len(counts) > _MOST_KINDS:
                return None
    except (*UNREADABLE, DataError, _NotPlain):
        return None
    return counts


class _NotPlain(Exception):
    """A table that only the reader of every row understands."""


def _csv(storage: Storage, path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    header = next(csv.reader([first_line(storage, path).split("\n", 1)[0]]), [])
    if len(header) < 2:  # another separator, an empty line, Excel's mark
        raise _NotPlain
    named = [header[place] for place in places(storage.name(path), header, columns).values()]
    if len({*header}) < len(header):
        raise _NotPlain
    convert = pa_csv.ConvertOptions(
        include_columns=list(dict.fromkeys(named)),
        column_types=dict.fromkeys(named, _TEXT),
        strings_can_be_null=False,
    )
    with storage.open(path) as handle:
        yield from _chosen(
            pa_csv.open_csv(handle, pa_csv.ReadOptions(block_size=_BLOCK), convert_options=convert), named
        )


def _parquet(storage: Storage, path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with parquet_file(storage, path) as file:
        schema = file.schema_arrow
    named = [schema.names[place] for place in places(storage.name(path), schema.names, columns).values()]
    check_plain(storage.name(path), schema, named)
    with parquet_file(storage, path, text_columns(schema, named)) as file:
        yield from _chosen(file.iter_batches(_ROWS, columns=list(dict.fromkeys(named))), named)


def _chosen(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_arrays([batch.column(name) for name in names], [str(i) for i in range(len(names))])


def _counted(batch: pa.RecordBatch) -> Tally:
    """The rows of a batch by their values: one number for each combination of codes."""
    codes, values = zip(*map(_coded, batch.columns), strict=True)
    sizes = [len(of_column) for of_column in values]
    # So many combinations are no labels and attributes.
    if np.prod([max(1, size) for size in sizes], dtype=float) > _MOST_KINDS * 100:
        raise _NotPlain
    whole = np.zeros(batch.num_rows, np.int64)
    for code, size in zip(codes, sizes, strict=True):
        whole = whole * size + code
    counts = np.bincount(whole)
    counted: Tally = Counter()
    for number in np.flatnonzero(counts).tolist():
        texts, rest = list[str](), number
        for of_column in reversed(values):
            rest, code = divmod(rest, len(of_column))
            texts.append(of_column[code])
        counted[tuple(reversed(texts))] += int(counts[number])
    return counted


def _coded(column: pa.Array) -> tuple[NDArray[np.int64], list[str]]:
    """A column as codes (N,), and the text of each."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts: list[Any] = coded.dictionary.to_pylist()
    codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False).astype(np.int64)
    try:
        return codes, [as_text(value, "a value") for value in (*texts, None)]
    except DataError:
        raise _NotPlain from None

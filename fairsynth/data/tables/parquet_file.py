"""Parquet files of a dataset, opened within bounds: some bytes of one can stand for any number of rows, and for gigabytes.

Texts are read as dictionaries, in which a value that is there a million times takes its memory once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.data.storage import Storage
from fairsynth.errors import DataError

# What can be raised by reading a file that is damaged or no Parquet.
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError)
MOST_FOOTER = 64 << 20
# Of more rows than the first there may be so many for each byte of the file: every image has a name of its own, and names
# that are counted pack well, but not to nothing.
FREE_ROWS, ROWS_A_BYTE = 100_000, 20
MOST_ROWS = 50_000_000
LONGEST_CELL = 1 << 16
_BATCH = 1 << 16
# An image in a cell is packed already: a column that unpacks to more than this many times its size holds none.
_MOST_UNPACKED, _ALWAYS = 100, 64 << 20


@contextmanager
def parquet_file(storage: Storage, path: str, as_dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """An open file, read piece by piece. ``as_dictionaries``: columns of texts or bytes, ``struct.field`` inside of a struct.

    Raises DataError for what is no Parquet file, and for one beyond the bounds.
    """
    where = storage.name(path)
    try:
        with storage.open(path) as handle:
            size = _check_footer(where, handle)
            file = pq.ParquetFile(handle, read_dictionary=[*as_dictionaries], buffer_size=1 << 20)
            check_rows(where, file.metadata.num_rows, size)
            yield file
    except UNREADABLE as error:
        raise not_parquet(where, error) from None
    except MemoryError:
        raise DataError(f"{where} unpacks to more than memory holds; is it damaged? get the file again") from None


def not_parquet(where: str, error: Exception) -> DataError:
    """What is told of a file that Arrow cannot read."""
    return DataError(f"{where} is not a readable Parquet file: {' '.join(str(error).split())[:200]}")


def check_rows(where: str, rows: int, size: int) -> None:
    """Raise DataError for more rows than may be, or than a file of this many bytes can name images."""
    if rows > MOST_ROWS or rows > max(ROWS_A_BYTE * size, FREE_ROWS):
        most = (
            "50 million may be in one file" if rows > MOST_ROWS else f"in {size:,} bytes they cannot each name an image"
        )
        raise DataError(f"{where} has {rows:,} rows; {most}; write the table anew")


def _check_footer(where: str, handle: pa.NativeFile) -> int:
    """The file's size. Raises DataError for a footer that is too long: Arrow would read it whole."""
    size: int = handle.size()
    handle.seek(max(0, size - 8))
    end = handle.read(8)
    handle.seek(0)
    if len(end) == 8 and end[4:] == b"PAR1":
        (length,) = struct.unpack("<I", end[:4])
        if length > min(MOST_FOOTER, size):
            raise DataError(f"{where} has a footer of {length:,} bytes; {MOST_FOOTER:,} may be; get the file again")
    return size


def text_columns(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """Those of the columns that can be read as dictionaries."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [name for name in dict.fromkeys(names) if any(is_kind(schema.field(name).type) for is_kind in kinds)]


def check_plain(where: str, schema: pa.Schema, names: Sequence[str]) -> None:
    """Raise DataError for a column that holds no single values, or too long ones."""
    for name in dict.fromkeys(names):
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            what = "objects" if pa.types.is_struct(kind) or pa.types.is_map(kind) else "lists"
            raise DataError(f"{where}: the column {name} holds {what}; one value is needed")
        if pa.types.is_fixed_size_binary(kind) and kind.byte_width > LONGEST_CELL:
            raise DataError(f"{where}: the values of {name} have {kind.byte_width:,} bytes; {LONGEST_CELL:,} may be")


def batches(
    where: str, file: pq.ParquetFile, names: Sequence[str], groups: Sequence[int] | None = None, most: int = MOST_ROWS
) -> Iterator[dict[str, list[Any]]]:
    """The values of top-level columns, some rows at a time. Raises DataError for values that no program can show."""
    rows, columns = 0, list(dict.fromkeys(names))
    for batch in file.iter_batches(_BATCH, columns=columns, row_groups=groups, use_threads=False):
        rows += batch.num_rows
        if rows > most:
            raise DataError(f"{where} has more rows than it says; get the file again")
        yield {name: values_of(f"{where}: {name}", batch.column(name)) for name in columns}


def values_of(where: str, column: pa.Array) -> list[Any]:
    """The values of a column that may be a dictionary. Raises DataError for one that no program can show."""
    try:
        if not pa.types.is_dictionary(column.type):
            return column.to_pylist()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        used, places = np.unique(codes, return_inverse=True)
        has_null = bool(len(used)) and used[0] < 0
        chosen = column.dictionary.take(pa.array(used[1:] if has_null else used, pa.int64()))
        _check_lengths(where, chosen)
        words = [*([None] if has_null else []), *chosen.to_pylist()]
        return [words[place] for place in places.tolist()]
    except (*UNREADABLE, LookupError, TypeError) as error:
        raise DataError(f"{where}: a value cannot be read: {' '.join(str(error).split())[:200]}") from None


def _check_lengths(where: str, values: pa.Array) -> None:
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > LONGEST_CELL:
        raise DataError(f"{where} has a value of {longest:,} bytes; {LONGEST_CELL:,} may be; is it the right column?")


def unpacks_too_far(file: pq.ParquetFile, group: int, column: int) -> bool:
    """Whether a column of a row group is no column of images: it unpacks to many times its size."""
    chunk = file.metadata.row_group(group).column(column)
    packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
    return bool(unpacked > max(_ALWAYS, _MOST_UNPACKED * packed))

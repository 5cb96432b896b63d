"""Images in the cells of a Parquet file, one row at a time: a row group may hold gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.data.metadata import BadImage
from fairsynth.data.storage import Storage
from fairsynth.data.tables.parquet_file import unpacks_too_far


class Cells:
    """The cells of one column of one row group, in the order of the rows."""

    def __init__(self, storage: Storage, file: str, row_group: int, column: str) -> None:
        self.storage, self.file, self.row_group, self.column = storage, file, row_group, column
        self._at, self._cell = -1, None
        self._rows: Iterator[pa.RecordBatch] | None = None

    def leads_to(self, file: str, row_group: int, row: int, column: str) -> bool:
        """Whether a cell is here, and not yet passed by."""
        return (self.file, self.row_group, self.column) == (file, row_group, column) and row >= self._at

    def read(self, row: int, most: int) -> bytes:
        """The bytes of a row's image; empty if it has none.

        Raises BadImage (too_many_bytes, unreadable), and what Arrow raises for a file that cannot be read.
        """
        self._rows = self._rows or self._opened()
        while self._at < row:
            batch = next(self._rows, None)
            if batch is None:
                raise BadImage("unreadable", f"the row group has {self._at + 1} rows")
            self._at, self._cell = self._at + 1, batch.column(0)
        value = _bytes_of(self._cell)
        if value is None or not value.is_valid:
            return b""
        size = value.as_buffer().size
        if size > most:
            raise BadImage("too_many_bytes", f"{size:,} bytes; the limit is {most:,} (data.images.max_bytes)")
        return bytes(value.as_py())

    def _opened(self) -> Iterator[pa.RecordBatch]:
        handle = self.storage.filesystem.open_input_file(self.storage.full(self.file))
        plain = pq.ParquetFile(handle)
        is_struct = pa.types.is_struct(plain.schema_arrow.field(self.column).type)
        leaf = f"{self.column}.bytes" if is_struct else self.column
        group = plain.metadata.row_group(self.row_group)
        place = next(i for i in range(group.num_columns) if group.column(i).path_in_schema == leaf)
        if unpacks_too_far(plain, self.row_group, place):
            raise BadImage("too_many_bytes", "the column unpacks to many times its size, as no images do")
        # As a dictionary a cell that is there many times takes its memory once; the buffer reads no column chunk whole.
        file = pq.ParquetFile(handle, metadata=plain.metadata, read_dictionary=[leaf], buffer_size=1 << 20)
        return file.iter_batches(1, row_groups=[self.row_group], columns=[leaf], use_threads=False)  # type: ignore[no-any-return]


def _bytes_of(cell: Any) -> Any:
    """The scalar of the bytes in a column of one row."""
    if pa.types.is_struct(cell.type):
        if not cell[0].is_valid:
            return None
        cell = cell.field("bytes")
    value = cell[0]
    return value.value if pa.types.is_dictionary(cell.type) and value.is_valid else value

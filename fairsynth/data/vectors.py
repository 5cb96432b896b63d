"""Matrices as Arrow columns and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def vectors(values_ND: NDArray[np.float32]) -> pa.Array:
    """A float32 matrix as an Arrow column of lists."""
    flat = pa.array(np.ascontiguousarray(values_ND, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values_ND.shape[1])


def matrix(table: pa.Table, name: str) -> NDArray[np.float32]:
    """An Arrow column of lists as a float32 matrix (N, D)."""
    column = table.column(name).combine_chunks()
    return np.asarray(column.flatten()).reshape(len(table), -1).astype(np.float32, copy=False)  # type: ignore[no-any-return]


def ragged(values: Sequence[NDArray[np.float32]]) -> pa.Array:
    """Vectors of several lengths as an Arrow column of lists, float32."""
    return pa.array([np.asarray(value, np.float32).ravel() for value in values], pa.list_(pa.float32()))


def rows(table: pa.Table, name: str) -> list[NDArray[np.float32]]:
    """An Arrow column of lists of any lengths as vectors: copies, (D,) each."""
    return [np.array(row.values, np.float32) for row in table.column(name)]


def byte_rows(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint8]:
    """An Arrow column of fixed size binary without nulls as uint8 (N, width): a view if it is contiguous."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = column.type.byte_width
    if not len(column):
        return np.zeros((0, width), np.uint8)
    data = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return data.reshape(-1, width)

"""Thumbnails: means of each row's own image, and read back as they were stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fairsynth.config import ImageRules
from fairsynth.data.copies import THUMBNAIL_BYTES, unpacked
from fairsynth.data.decode import decode
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.stages.embed.embedding import PLAN, DecodeUnit, plan_rows
from tests.support.embedding import Encoder, embedder, root, rows

__all__ = ["root"]


@pytest.mark.parametrize("size", [32, 64])
def test_thumbnails_are_means_of_boxes_of_each_rows_own_image(root: Path, tmp_path: Path, size: int) -> None:
    def spoil(found: NDArray[np.float32]) -> None:
        found[[0, 7]] = np.nan

    write_plan(tmp_path / "plan.parquet", plan_rows(pa.Table.from_pylist(rows(root), PLAN)), 100, "images")
    work = DecodeUnit(Storage(str(root)), PlanRows(tmp_path / "plan.parquet"), size, ImageRules())
    made = embedder(Encoder(spoil))(work("images-000000"))["embeddings"].to_pylist()
    paths = {row["image_id"]: root / row["path"] for row in rows(root)}
    assert len(made) == 30
    for row in made:
        found = np.frombuffer(row["thumbnail"], np.uint8).reshape(32, 32, 3)
        image = decode(paths[row["image_id"]].read_bytes(), size).astype(float)
        side = size // 32
        means = image.reshape(32, side, 32, side, 3).mean((1, 3))
        # Pillow rounds once along each side.
        assert np.abs(found - means).max() <= (1 if size > 32 else 0)


def looks(*chunks: NDArray[np.uint8]) -> pa.ChunkedArray:
    """A column of thumbnails as embed stores them, in these chunks."""
    binary = pa.binary(THUMBNAIL_BYTES)
    return pa.chunked_array([pa.array([image.tobytes() for image in chunk], binary) for chunk in chunks], binary)


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)


def test_thumbnails_are_read_back_from_whole_columns_and_from_parts_of_them(tmp_path: Path) -> None:
    one, many = looks(PIXELS), looks(PIXELS[:2], PIXELS[:0], PIXELS[2:3], PIXELS[3:])
    assert many.num_chunks == 4
    for column in (one, many):
        found = unpacked(column)
        assert found.dtype == np.uint8 and np.array_equal(found, PIXELS)
        for start, length in ((0, 4), (1, 1), (1, 7), (2, 7), (8, 1), (5, 99)):
            assert np.array_equal(unpacked(column.slice(start, length)), PIXELS[start : start + length])
        assert np.array_equal(unpacked(column.slice(2).slice(3, 2)), PIXELS[5:7])
    part = pa.chunked_array([one.chunk(0).slice(1, 2), one.chunk(0).slice(6, 3)])
    assert np.array_equal(unpacked(part), PIXELS[[1, 2, 6, 7, 8]])
    pq.write_table(pa.table({"thumbnail": many}), tmp_path / "t.parquet", row_group_size=4)
    assert np.array_equal(unpacked(pq.read_table(tmp_path / "t.parquet")["thumbnail"]), PIXELS)


@pytest.mark.parametrize("column", [looks(), looks(PIXELS[:0]), looks(PIXELS[:0], PIXELS[:0]), looks(PIXELS).slice(9)])
def test_no_thumbnails_are_read_back_as_none(column: pa.ChunkedArray) -> None:
    found = unpacked(column)
    assert found.shape == (0, 32, 32, 3) and found.dtype == np.uint8


def test_thumbnails_that_lie_in_one_piece_are_not_copied() -> None:
    column = looks(PIXELS)
    start = column.chunk(0).buffers()[1].address
    assert unpacked(column).ctypes.data == start
    assert unpacked(column.slice(4)).ctypes.data == start + 4 * 3072

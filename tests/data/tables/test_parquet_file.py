"""Parquet within bounds: equal rows, long values, footers; and images one cell at a time."""

from __future__ import annotations

import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.location import ImageReader, parquet_location
from fairsynth.data.metadata import BadImage, Found
from fairsynth.data.storage import Storage
from fairsynth.data.tables import parquet_file
from fairsynth.data.tables.parquet_file import batches, check_rows, text_columns
from fairsynth.data.tables.table import column_names, read_table
from fairsynth.errors import DataError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows_of(folder: Path, **columns: Any) -> list[dict[str, str]]:
    """The rows of a table of these columns, as they are read."""
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return [row for _, row in read_table(Storage(str(folder)), "t.parquet", [*columns], Found())]


def test_values_come_back_whatever_holds_them(tmp_path: Path) -> None:
    words = ["a", None, "b", "a", ""]
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())):
        column = (
            pa.array(words, pa.string()).cast(kind)
            if not pa.types.is_dictionary(kind)
            else pa.array(words).dictionary_encode()
        )
        assert [row["x"] for row in rows_of(tmp_path, x=column)] == ["a", "", "b", "a", ""]
    assert [row["x"] for row in rows_of(tmp_path, x=[1.0, None, 2.5])] == ["1", "", "2.5"]


@settings(deadline=None)
@given(
    words=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=30),
    size=st.integers(1, 9),
)
def test_the_values_of_batches_are_those_of_arrow(words: list[str | None], size: int) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.array(words, pa.string())}), sink, row_group_size=size)
    plain = pq.ParquetFile(pa.BufferReader(sink.getvalue()))
    file = pq.ParquetFile(pa.BufferReader(sink.getvalue()), read_dictionary=text_columns(plain.schema_arrow, ["x"]))
    assert [value for batch in batches("t", file, ["x"]) for value in batch["x"]] == words


def test_more_rows_than_can_have_names_are_refused() -> None:
    check_rows("t", parquet_file.FREE_ROWS, 100)
    check_rows("t", 2_000_000, 100_000)
    with pytest.raises(DataError, match=r"t has 60,000,000 rows; 50 million may be"):
        check_rows("t", 60_000_000, 10**9)
    with pytest.raises(DataError, match=r"in 1,000 bytes they cannot each name an image"):
        check_rows("t", 600_000, 1000)


def test_a_value_that_is_long_is_refused_and_takes_its_memory_once(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * 2_000_000]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"x has a value of 2,000,000 bytes; 65,536 may be"):
        rows_of(tmp_path, x=column)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"


def test_a_footer_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "t.parquet").open("wb") as file:
        file.truncate(3 << 30)
        file.seek((3 << 30) - 8)
        file.write(struct.pack("<I", 1 << 30) + b"PAR1")
    with pytest.raises(DataError, match=r"t\.parquet has a footer of 1,073,741,824 bytes"):
        column_names(Storage(str(tmp_path)), "t.parquet")


def cells(folder: Path, contents: list[bytes | None], **options: Any) -> ImageReader:
    """A reader of a file with these cells, in row groups of three."""
    table = pa.table({"image": pa.array([{"bytes": c, "path": None} for c in contents], IMAGE)})
    pq.write_table(table, folder / "i.parquet", row_group_size=3, **options)
    return ImageReader(Storage(str(folder)), options.get("max_bytes", 1000))


def test_cells_are_found_in_any_order(tmp_path: Path) -> None:
    contents = [bytes([i]) * (i + 1) for i in range(8)]
    reader = cells(tmp_path, [*contents])
    order = np.random.default_rng(0).permutation(16) % 8
    for i in order.tolist():
        assert reader.read("x", parquet_location("i.parquet", i // 3, i % 3, "image")).content == contents[i]


def test_a_cell_may_be_empty_or_too_large_and_its_neighbours_are_read(tmp_path: Path) -> None:
    reader = cells(tmp_path, [b"a", None, b"x" * 1001])
    at = [parquet_location("i.parquet", 0, row, "image") for row in range(3)]
    assert reader.read("x", at[0]).content == b"a"
    for place, reason in ((at[1], "empty"), (at[2], "too_many_bytes")):
        with pytest.raises(BadImage, match=reason):
            reader.read("x", place)
    assert reader.read("x", at[0]).content == b"a"


def test_a_column_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    reader = cells(tmp_path, [bytes(40_000_000)] * 3, compression="zstd", use_dictionary=False)
    with pytest.raises(BadImage, match="too_many_bytes"):
        reader.read("x", parquet_location("i.parquet", 0, 0, "image"))

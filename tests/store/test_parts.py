"""Parts of large files: as many as a store takes, whatever the size."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.store.parts import PART, Source, part_size

TB = 10**12


@pytest.mark.parametrize("size", [0, 1, PART, 75 * 10**9, 500 * 10**9, 5 * TB])
def test_no_file_has_more_than_ten_thousand_parts(size: int) -> None:
    part = part_size(size)
    assert part >= PART and part % 2**20 == 0 and -(-size // part) <= 9000
    assert part_size(10**9) == PART


def test_parts_that_are_large_are_fewer_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(TB)  # no byte of it is on the disk
    source = Source(path)
    assert source.part > 100 * 2**20 and source.side_by_side * source.part <= 256 * 2**20


def test_a_source_is_read_again_from_its_start_and_tells_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 10_000)
    source = Source(path)
    next(source.pieces())
    assert source.furthest() == 2**20
    assert b"".join(source.pieces()) == path.read_bytes() and source.furthest() == 2_560_000
    next(source.pieces())
    assert source.furthest() == 2_560_000

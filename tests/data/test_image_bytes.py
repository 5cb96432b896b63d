"""An image of more bytes than may be is set aside before it is read, wherever it lies; the limit changes no identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import DataConfig, ImageRules
from fairsynth.data.location import ImageReader, tar_location
from fairsynth.data.metadata import BadImage
from fairsynth.data.storage import Storage
from fairsynth.stages.ingest.step import _asked
from tests.support.data.dataset_files import put
from tests.support.datasets import tiny_folder_dataset
from tests.support.ingesting import LENIENT, ingested


def test_a_file_or_a_member_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(20 << 30)
    put(tmp_path / "a.png", b"x" * 100)
    reader = ImageReader(Storage(str(tmp_path)), 100)
    assert len(reader.read("a.png").content) == 100
    for place in (
        ("sparse.png", ""),
        ("x", tar_location("sparse.png", 0, 101)),
        ("x", tar_location("a.png", 0, 10**18)),
    ):
        with pytest.raises(BadImage, match="too_many_bytes"):
            reader.read(*place)


def test_it_is_counted_with_its_reason(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", changed={0: b"\x89PNG" + bytes(5000)})
    found = ingested(root, tmp_path / "out", images=ImageRules(max_bytes=4000), **LENIENT)
    assert found.reasons == {"train/0000.png": "too_many_bytes"}


def test_what_was_ingested_before_there_was_a_limit_keeps_its_name() -> None:
    usual, other = _asked(DataConfig()), _asked(DataConfig(images=ImageRules(max_bytes=1000)))
    assert "max_bytes" not in usual["images"] and other["images"]["max_bytes"] == 1000

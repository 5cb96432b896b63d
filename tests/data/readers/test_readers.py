"""Reading metadata, whatever the layout: every layout is recognised, and reading many rows is cheap."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fairsynth.config import formats
from fairsynth.data import dataset
from fairsynth.data.location import ImageReader
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from tests.support.data.dataset_files import image, load, put, sizes
from tests.support.data.layouts import LAYOUTS, WATERBIRDS, utkface, waterbirds_table, webdataset
from tests.support.data.metadata import BIRDS, HEADER, ROWS, cost_of_loading, refusal
from tests.support.datasets import COUNTS, tiny_waterbirds, write_rows


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file and folder."""
    return {
        str(p): (hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "", p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_recognised_loads_and_gives_its_images_untouched(tmp_path: Path, name: str) -> None:
    expected, build, options = LAYOUTS[name]
    storage = Storage(str(build(tmp_path)))
    before = tree(tmp_path)
    assert dataset.recognise(storage) == expected
    metadata = load(tmp_path, **options)
    assert metadata == load(tmp_path, format=expected, **options)
    assert not metadata.quarantined and len(metadata.entries) >= 12
    assert {entry.split for entry in metadata.entries} == {"train", "val", "test"} or "split_fractions" in options
    assert len({entry.path for entry in metadata.entries}) == len(metadata.entries)
    images = ImageReader(storage)
    assert len({images.read(entry.path, entry.location).sha256 for entry in metadata.entries}) > 1
    assert tree(tmp_path) == before


def test_every_reader_has_a_layout_here() -> None:
    assert {expected for expected, _, _ in LAYOUTS.values()} == set(formats())


def test_what_no_reader_or_several_readers_recognise_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is not recognised \(it holds: nothing\); say which with --data\.format: celeba"
    ):
        load(tmp_path)
    put(tmp_path / "notes" / "x.txt", "nothing")
    put(tmp_path / "table.xlsx", "nothing")
    with pytest.raises(DataError, match=r"is not recognised \(it holds: notes, table\.xlsx\)"):
        load(tmp_path)
    LAYOUTS["parquet"][1](tmp_path)
    LAYOUTS["folder, csv"][1](tmp_path)
    with pytest.raises(DataError, match="could be folder or parquet"):
        load(tmp_path)
    assert len(load(tmp_path, format="folder").entries) == 12


def test_the_folder_above_a_dataset_is_no_class_folder(tmp_path: Path) -> None:
    tiny_waterbirds(tmp_path / "waterbird_complete95_forest2water2")
    with pytest.raises(DataError, match="is not recognised"):
        load(tmp_path)


def test_a_metadata_table_decides_whatever_lies_beside_it(tmp_path: Path) -> None:
    utkface(tmp_path / "a", "images")
    webdataset(tmp_path / "b")
    for root in (tmp_path / "a", tmp_path / "b"):
        write_rows(root / "metadata.csv", HEADER, ROWS)
        assert dataset.recognise(Storage(str(root))) == "folder"


@pytest.mark.parametrize("name", formats())
def test_options_that_a_format_does_not_know_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"the format {name} has no option 'colour'"):
        load(tmp_path, format=name, options={"colour": "red"})


@pytest.mark.parametrize("name", formats())
def test_an_empty_folder_is_refused_by_every_reader(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        load(tmp_path, format=name)


def test_waterbirds_codes(tmp_path: Path) -> None:
    metadata = load(tiny_waterbirds(tmp_path))
    assert sizes(metadata, [(y, a) for y in "01" for a in "01"]) == COUNTS
    assert all((tmp_path / entry.path).is_file() for entry in metadata.entries)


def test_waterbirds_of_the_published_size_has_the_published_groups(tmp_path: Path) -> None:
    metadata = load(waterbirds_table(tmp_path))
    assert sizes(metadata, [(y, a) for y in "01" for a in "01"]) == WATERBIRDS
    assert len(metadata.entries) == 11_788 and metadata.remarks == []


@pytest.mark.parametrize("split", ["3", "train", "", "-1", "0.5"])
def test_waterbirds_split_must_be_a_code(tmp_path: Path, split: str) -> None:
    rows = [("1", "a.jpg", "0", "0", "0", "f"), ("2", "b.jpg", "0", split, "0", "f")]
    message = refusal(tmp_path, rows, BIRDS)
    assert f"row 3: split is {split!r}; allowed: 0 (train), 1 (validation), 2 (test)" in message


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says the peak")
def test_two_hundred_thousand_rows_load_fast_in_little_memory(tmp_path: Path) -> None:
    rows = [
        (f"images/{i % 100:03d}/{i:08d}.jpg", ("train", "val", "test")[i % 3], f"label {i % 7}", f"attribute {i % 5}")
        for i in range(200_000)
    ]
    write_rows(tmp_path / "metadata.csv", HEADER, rows)
    n, seconds, peak = cost_of_loading(tmp_path)
    assert n == 200_000 and seconds < 20 and peak < 1000


def test_a_hundred_classes_are_looked_at_briefly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        put(tmp_path / f"class {number}" / "a.jpg", image(number))
    asked: list[str] = []
    names = Storage.names
    monkeypatch.setattr(Storage, "names", lambda self, folder="": asked.append(folder) or names(self, folder))  # type: ignore[func-returns-value]
    assert dataset.recognise(Storage(str(tmp_path))) == "classfolder"
    assert len(asked) < 60

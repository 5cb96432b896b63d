"""Image folders: with a metadata table, or with the labels as names of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.data.metadata import Entry, SetAside
from fairsynth.errors import DataError
from tests.support.data.dataset_files import MEMBERS, image, load, put, write_table
from tests.support.data.layouts import DISCOVER, FRACTIONS, class_folders, folder, folder_by_split

EXPECTED = {f"images/{number:04d}.jpg": member for number, member in enumerate(MEMBERS)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_of_a_table_at_the_root_become_entries_in_order(tmp_path: Path, suffix: str) -> None:
    found = load(folder(tmp_path, suffix)).entries
    assert found == [Entry(path, *member) for path, member in EXPECTED.items()]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tables_in_split_folders_name_files_from_there(tmp_path: Path, suffix: str) -> None:
    found = load(folder_by_split(tmp_path, suffix)).entries
    assert sorted((e.split, e.label, e.attribute) for e in found) == sorted(MEMBERS)
    assert {Path(e.path).parent.name: e.split for e in found} == {"train": "train", "validation": "val", "test": "test"}
    assert all((tmp_path / e.path).is_file() for e in found)


def test_a_split_folder_is_no_way_out(tmp_path: Path) -> None:
    folder_by_split(tmp_path)
    write_table(
        tmp_path / "test" / "metadata.csv", ("file_name", "label", "attribute"), [("../train/0000.jpg", "x", "p")]
    )
    with pytest.raises(DataError, match=r"'\.\./train/0000\.jpg' must be a relative path"):
        load(tmp_path)


def test_more_than_one_table_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "jsonl")
    folder(tmp_path, "csv")
    with pytest.raises(
        DataError, match=r"more than one metadata table in one folder: metadata\.csv, metadata\.jsonl; keep one"
    ):
        load(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    folder_by_split(tmp_path, "parquet")
    with pytest.raises(DataError, match=r"has the tables metadata\.jsonl and test/metadata\.parquet"):
        load(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    assert len(load(tmp_path).entries) == len(MEMBERS)


def test_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold metadata\.csv, .* with the columns file_name, label, attribute, split"):  # fmt: skip
        load(tmp_path, format="folder")


def test_a_table_without_a_split_asks_for_one_or_makes_it(tmp_path: Path) -> None:
    rows = [(f"{i:04d}.jpg", f"label {i % 2}", f"attribute {i // 2 % 2}") for i in range(400)]
    write_table(tmp_path / "metadata.csv", ("file_name", "label", "attribute"), rows)
    with pytest.raises(DataError, match=r"has no split; add a column .* --data\.split_fractions"):
        load(tmp_path)
    first = load(tmp_path, split_fractions=(0.7, 0.1, 0.2))
    write_table(tmp_path / "metadata.csv", ("file_name", "label", "attribute"), rows[::-1])
    again = load(tmp_path, split_fractions=(0.7, 0.1, 0.2))
    assert set(first.entries) == set(again.entries)
    assert set(first.entries) != set(load(tmp_path, split_fractions=(0.7, 0.1, 0.2), split_seed=1).entries)
    for group in {(e.label, e.attribute) for e in first.entries}:
        splits = [e.split for e in first.entries if (e.label, e.attribute) == group]
        assert [splits.count(s) for s in ("train", "val", "test")] == [70, 10, 20]
    assert first.remarks == [
        "the dataset has no split of its own: made with shares 0.7, 0.1, 0.2 and data.split_seed 0"
    ]


def test_a_split_column_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(DataError, match=r"no column 'splits' \(did you mean 'split'\?\)"):
        load(tmp_path, split_column="splits")
    rows = [(name, "test", *member) for name, member in EXPECTED.items()]
    write_table(tmp_path / "metadata.csv", ("file_name", "split", "part", "label", "attribute"), rows)
    assert load(tmp_path, split_column="part").entries == [Entry(path, *member) for path, member in EXPECTED.items()]


def test_json_lines_in_which_only_some_rows_have_a_split_are_refused(tmp_path: Path) -> None:
    line = '{{"file_name": "{}.jpg", "label": "{}", "attribute": "p"{}}}\n'
    put(tmp_path / "metadata.jsonl", line.format("a", "x", "") + line.format("b", "y", ', "split": "test"'))
    with pytest.raises(DataError, match=r"1 images have no split, the others have one; first: 'a\.jpg'"):
        load(tmp_path)


def test_a_metadata_table_of_something_else_is_no_image_folder(tmp_path: Path) -> None:
    write_table(tmp_path / "metadata.csv", ("file_names", "label", "attribute"), [("a.jpg", "x", "p")])
    for name in ("auto", "folder"):
        with pytest.raises(DataError, match=r"no column 'file_name' \(did you mean 'file_names'\?\)"):
            load(tmp_path, format=name)


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("attributes", [True, False])
def test_folders_become_split_label_and_attribute(tmp_path: Path, splits: bool, attributes: bool) -> None:
    options = ({} if splits else FRACTIONS) | ({} if attributes else DISCOVER)
    found = load(class_folders(tmp_path, splits, attributes), **options).entries
    assert [e.path for e in found] == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    expected = sorted((s if splits else "", y, a if attributes else "") for s, y, a in MEMBERS)
    assert sorted((e.split if splits else "", e.label, e.attribute) for e in found) == expected


def test_split_folders_may_have_other_words(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "val").rename(tmp_path / "Validation")
    (tmp_path / "train").rename(tmp_path / "training")
    assert sorted((e.split, e.label, e.attribute) for e in load(tmp_path).entries) == sorted(MEMBERS)


def test_one_level_of_folders_has_no_attribute(tmp_path: Path) -> None:
    class_folders(tmp_path, True, False)
    with pytest.raises(
        DataError, match=r"one level of folders \(label/\) and so no attribute; .* --data\.attribute discover"
    ):
        load(tmp_path)
    with pytest.raises(DataError, match=r"without data\.attribute_column"):
        load(tmp_path, attribute="discover", attribute_column="attribute")


def test_the_levels_may_be_swapped_or_hidden(tmp_path: Path) -> None:
    class_folders(tmp_path)
    swapped = load(tmp_path, label_column="attribute", attribute_column="label").entries
    assert sorted((e.split, e.attribute, e.label) for e in swapped) == sorted(MEMBERS)
    hidden = load(tmp_path, attribute="discover", attribute_column="attribute").entries
    assert sorted((e.split, e.label, e.true_attribute) for e in hidden) == sorted(MEMBERS)
    with pytest.raises(DataError, match=r"no column 'labels' \(did you mean 'label'\?\)"):
        load(tmp_path, label_column="labels")


def test_files_at_another_depth_are_set_aside(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for name in ("train/stray.png", "train/cat/stray.png", "train/cat/indoor/deeper/stray.png"):
        put(tmp_path / name, image(0))
    metadata = load(tmp_path)
    assert sorted((e.split, e.label, e.attribute) for e in metadata.entries) == sorted(MEMBERS)
    assert metadata.quarantined == [
        SetAside("train/cat/indoor/deeper/stray.png", "unexpected_depth", "3 folders; most images have 2"),
        SetAside("train/cat/stray.png", "unexpected_depth", "1 folders; most images have 2"),
        SetAside("train/stray.png", "unexpected_depth", "0 folders; most images have 2"),
    ]


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for name in (
        "README.md",
        "train/cat/indoor/notes.txt",
        "train/cat/indoor/.hidden.png",
        "train/.DS_Store",
        "__MACOSX/x.png",
    ):
        put(tmp_path / name, "x")
    for suffix in ("JPG", "Jpeg", "webp", "bmp", "tif", "TIFF", "gif"):
        put(tmp_path / f"train/cat/indoor/other.{suffix}", "x")
    metadata = load(tmp_path)
    assert len(metadata.entries) == len(MEMBERS) + 7
    ignored = "2 files are no images by their names and were ignored: README.md, train/cat/indoor/notes.txt"
    assert metadata.remarks == [ignored, "1 files in __MACOSX folders are left out"]


@pytest.mark.parametrize("place", ["", "a/b/c/", "train/", "train/a/b/c/"])
def test_too_few_and_too_many_levels_are_refused(tmp_path: Path, place: str) -> None:
    put(tmp_path / f"{place}x.png", image(0))
    with pytest.raises(DataError, match=r"images must lie in label/ or label/attribute/.*found: 1 with [03] folders"):
        load(tmp_path, format="classfolder")


def test_a_class_that_is_named_like_a_split_is_remarked_upon(tmp_path: Path) -> None:
    for name in ("train", "bus", "car"):
        put(tmp_path / name / "x.png", image(0))
    metadata = load(tmp_path, **DISCOVER, **FRACTIONS)
    assert {e.label for e in metadata.entries} == {"train", "bus", "car"}
    assert metadata.remarks[0] == "folders named like splits (train) were taken as labels, because 'bus' is no split"

"""What a dataset says twice and differently is refused; what is there by another way is not left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError, DataError
from tests.support.data.dataset_files import image, load, put, write_tar
from tests.support.ingesting import inspected
from tests.support.public import HEADER, ROWS, csv_text, image_folder, json_lines, plain, read


def named(root: Path, *names: list[str]) -> Path:
    """Parquet files of codes, each with its own ClassLabel names."""
    for number, words in enumerate(names):
        rows = [(n, row) for n, row in enumerate(ROWS) if number == n % len(names)]
        features = {"label": {"_type": "ClassLabel", "names": words}}
        table = pa.table({
            "image": [image(n) for n, _ in rows], "label": [int(r[1] == "dog") for _, r in rows],
            "attribute": [r[2] for _, r in rows], "split": [r[3] for _, r in rows],
        })  # fmt: skip
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        root.mkdir(exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), root / f"{number}.parquet")
    return root


def test_files_that_number_their_labels_differently(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^label '0' is 'cat' in one file and 'dog' in 1\.parquet; write the files alike"
    ):
        load(named(tmp_path / "a", ["cat", "dog"], ["dog", "cat"]))
    assert load(named(tmp_path / "b", ["cat", "dog"], ["cat", "dog", "cow"])).words["label"]["2"] == "cow"
    (remark,) = load(named(tmp_path / "c", ["animal", "animal"])).remarks
    assert remark == "label: '0', '1' have one word, 'animal', and are different values all the same"


def by_split(root: Path, edit: dict[str, str]) -> Path:
    """A table in each split's folder, with a column of the split besides; ``edit`` gives it other words."""
    for split in ("train", "val", "test"):
        rows = [(name, y, a, edit.get(s, s)) for name, y, a, s in ROWS if s == split]
        put(root / split / "metadata.csv", csv_text([HEADER, *rows]))
    return root


def test_the_split_of_a_row_and_that_of_its_folder(tmp_path: Path) -> None:
    expected = sorted(e._replace(path=e.path.replace("images", e.split)) for e in plain(tmp_path))
    assert read(by_split(tmp_path / "a", {"val": "dev", "test": ""})).entries == expected
    with pytest.raises(DataError, match=r"row 2: the split is 'train' in the folder of 'test'; say one of them"):
        load(by_split(tmp_path / "b", {"test": "train"}))
    with pytest.raises(DataError, match="no column 'part'"):
        load(by_split(tmp_path / "c", {}), split_column="part")


@pytest.mark.parametrize("name", ["waterbirds", "utkface", "celeba", "classfolder"])
def test_a_column_of_the_split_where_the_format_has_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^the format {name} has no column of the split by another name"):
        load(tmp_path, format=name, split_column="part")


def test_blank_splits_of_a_named_table(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: (*row[:3], row[3] if row[3] != "val" else " "))
    (tmp_path / "metadata.csv").rename(tmp_path / "train_list.csv")
    with pytest.raises(DataError, match="8 images have no split, the others have one"):
        load(tmp_path, format="folder", options={"table": "train_list.csv"})


@pytest.mark.parametrize("split", ["test2", "fold1", "3"])
def test_names_of_splits_hold_for_folders_and_shards(tmp_path: Path, split: str) -> None:
    for number, (name, y, a, s) in enumerate(ROWS):
        put(tmp_path / "classes" / (split if s == "test" else s) / y / a / name, image(number))
        put(tmp_path / "tables" / (split if s == "test" else s) / name, image(number))
    for s in ("train", "val", "test"):
        rows = [row[:3] for row in ROWS if row[3] == s]
        put(tmp_path / "tables" / (split if s == "test" else s) / "metadata.csv", csv_text([HEADER[:3], *rows]))
        members = [(f"{i}.jpg", image(i)) for i in range(2)] + [
            (f"{i}.json", b'{"label": "x", "attribute": "p"}') for i in range(2)
        ]
        write_tar(tmp_path / "shards" / f"{split if s == 'test' else s}-00.tar", members)
    for folder, format, n in (("classes", "classfolder", 16), ("tables", "folder", 16), ("shards", "webdataset", 4)):
        found = read(tmp_path / folder, format=format, split_names={split: "drop"})
        assert len(found.entries) == n and {e.split for e in found.entries} == {"train", "val"}
        assert {image.reason for image in found.excluded} == {"split_dropped"}
        assert {e.split for e in read(tmp_path / folder, format=format, split_names={split: "test"}).entries} == {
            "train",
            "val",
            "test",
        }


def test_names_of_splits_that_no_image_has_are_told(tmp_path: Path) -> None:
    remarks = read(image_folder(tmp_path), split_names={"extra": "drop"}).remarks
    assert remarks == ["data.split_names: no image has the split 'extra'"]


def test_one_column_for_label_and_attribute(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^label is both label and attribute; choose another"):
        load(image_folder(tmp_path), attribute_column=("label",))


def test_a_key_twice_in_a_json_line(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    text = json_lines([dict(zip(HEADER, row, strict=True)) for row in ROWS])
    put(
        tmp_path / "metadata.jsonl",
        text + '{"file_name": "a.jpg", "label": "cat", "label": "dog", "attribute": "in", "split": "train"}\n',
    )
    with pytest.raises(DataError, match="line 25: not valid JSON: the key 'label' is there twice"):
        load(tmp_path)


def test_a_row_may_lack_what_others_have(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    rows = [dict(zip(HEADER, (f"images/{row[0]}", *row[1:]), strict=True)) for row in ROWS]
    del rows[0]["attribute"]
    put(tmp_path / "metadata.jsonl", json_lines(rows))
    assert read(tmp_path, unknown="drop").entries == plain(tmp_path)[1:]


def test_two_rows_for_one_file_in_two_spellings(tmp_path: Path) -> None:
    image_folder(tmp_path)
    with (tmp_path / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write("images\\00000.jpg,dog,in,train\n")
    with pytest.raises(DataError, match=r"gives 'images/00000.jpg' twice with different label"):
        load(tmp_path, missing_files="leave_out")
    text = (tmp_path / "metadata.csv").read_text("utf-8").replace("dog,in,train\n", "cat,in,Train\n")
    put(tmp_path / "metadata.csv", text.replace("images\\00000.jpg,dog", "images\\00000.jpg,cat"))
    assert [image.reason for image in load(tmp_path).excluded] == ["equal_row"]


def test_files_behind_links_and_hidden_ones_are_there(tmp_path: Path) -> None:
    image_folder(tmp_path / "data", lambda row: (row[0].replace("images", "linked"), *row[1:]))
    (tmp_path / "data" / "linked").symlink_to("images")
    put(tmp_path / "data" / ".more" / "x.jpg", image(99))
    with (tmp_path / "data" / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write(".more/x.jpg,cat,in,train\n")
    assert len(load(tmp_path / "data", missing_files="leave_out").entries) == 25
    found = inspected(tmp_path / "data")["images"]
    assert (found["used"], found["not_named"]) == (25, 0)


def test_what_is_there_by_another_name_is_not_left_out(tmp_path: Path) -> None:
    image_folder(tmp_path)
    for number in range(6):
        name = tmp_path / "images" / f"{number:05d}.jpg"
        name.rename(name.with_suffix(".JPG"))
    with pytest.raises(
        DataError, match=r"6 of 6 missing files are there in other case .* data.missing_files would leave them out"
    ):
        load(tmp_path, missing_files="leave_out")


def test_an_image_behind_a_link_says_how_it_is_read(tmp_path: Path) -> None:
    image_folder(tmp_path / "other")
    root = image_folder(tmp_path / "data")
    for path in (root / "images").iterdir():
        path.unlink()
        path.symlink_to(os.path.relpath(tmp_path / "other" / "images" / path.name, path.parent))
    (problem, *_) = [p for p in inspected(root)["problems"] if "outside_root" in p]
    assert "a link that leaves the dataset; if that is meant: --data.follow_links true" in problem
    assert inspected(root, follow_links=True)["images"]["used"] == 24


@pytest.mark.parametrize(("preset", "overrides", "kept"), [
    ("waterbirds", {"data.label_column": "y"}, True), ("waterbirds", {"data.label_column": "z"}, False), ("celeba", {"data.label_column": "Smiling"}, False),
    ("utkface", {"data.options": {"age_bins": {"kid": [0, 10], "adult": [20, 90]}}}, True), ("utkface", {"data.options": {"label": "race"}}, False),
    ("celeba", {"data.attribute_column": ["Male"]}, True), ("celeba", {"data.label_names": {"1": "fair"}}, True),
])  # fmt: skip
def test_a_presets_words_are_of_its_own_columns(preset: str, overrides: dict[str, object], kept: bool) -> None:
    assert bool(load_config(None, preset, overrides).data.label_names) is kept


def test_a_folder_that_was_given_a_meaning_is_never_a_label(tmp_path: Path) -> None:
    for number, (name, y, a, _) in enumerate(ROWS):
        put(tmp_path / y / a / name, image(number))
    put(tmp_path / "holdout" / "in" / "x.jpg", image(98))
    made = {"split_fractions": (0.5, 0.25, 0.25)}
    found = read(tmp_path, split_names={"holdout": "drop"}, **made)
    assert {e.label for e in found.entries} == {"cat", "dog"} and len(found.entries) == 24
    assert [(image.path, image.reason) for image in found.excluded] == [("holdout/in/x.jpg", "split_dropped")]
    with pytest.raises(DataError, match="the folders holdout are named like splits, but cat, dog not"):
        load(tmp_path, split_names={"holdout": "test"}, **made)


def test_only_folders_named_like_images_that_are_read_are_thumbnails(tmp_path: Path) -> None:
    for number, (name, y, a, s) in enumerate(ROWS):
        put(tmp_path / s / y / {"in": "nikon.raw", "out": "canon.hdr"}[a] / name, image(number))
    assert {e.attribute for e in read(tmp_path).entries} == {"nikon.raw", "canon.hdr"}


def test_a_preset_leaves_its_options_with_its_format() -> None:
    data = load_config(None, "utkface", {"data.format": "folder", "data.options": {"table": "t.csv"}}).data
    assert (data.options, data.label_names, data.aligned) == ({"table": "t.csv"}, {}, {})
    assert load_config(None, "utkface", {"data.format": "folder"}).data.options == {}
    assert load_config(None, "celeba", {"data.label_column": "blond_hair"}).data.label_names["1"] == "blond"

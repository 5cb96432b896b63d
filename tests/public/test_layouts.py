"""Folders and shards as people have them: splits by other names, images by other endings, thumbnails, links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.errors import DataError
from tests.support.data.dataset_files import image, load, put, write_tar
from tests.support.ingesting import inspected
from tests.support.public import HEADER, ROWS, csv_text, read

BY_PATH = {"train": "train", "val": "val", "test": "test"}


def class_folders(root: Path, names: dict[str, str] | None = None, levels: int = 2, ending: str = ".jpg") -> Path:
    """[split/]label/attribute/image, the splits by these names."""
    for number, (name, y, a, split) in enumerate(ROWS):
        folders = ((names or BY_PATH)[split], y, a)[: levels + 1]
        put(root.joinpath(*folders, name.replace(".jpg", ending)), image(number))
    return root


def splits_of(root: Path, **options: object) -> dict[str, int]:
    """Images per split."""
    entries = read(root, **options).entries
    return {split: sum(e.split == split for e in entries) for split in ("train", "val", "test")}


@pytest.mark.parametrize(("train", "val", "test"), [
    ("training_set", "valid_set", "test_set"), ("train2017", "val2017", "test2017"), ("seg_train", "seg_dev", "seg_test"),
    ("Train_data", "Validation data", "Test_data"), ("training-set", "val_images", "testset"), ("train ", "valid", "test1"),
])  # fmt: skip
def test_split_folders_by_other_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    class_folders(tmp_path, {"train": train, "val": val, "test": test})
    assert splits_of(tmp_path) == {"train": 8, "val": 8, "test": 8}
    found = read(tmp_path)
    assert {(e.label, e.attribute) for e in found.entries} == {(y, a) for y in ("cat", "dog") for a in ("in", "out")}
    assert any(remark.startswith("taken as splits: ") for remark in found.remarks)


def test_folders_of_which_only_some_are_splits_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    put(tmp_path / "extras" / "cat" / "in" / "x.jpg", image(99))
    with pytest.raises(DataError, match=r"the folders test, train, val are named like splits, but extras not; move or"):
        load(tmp_path)


def test_labels_that_are_named_like_splits(tmp_path: Path) -> None:
    class_folders(tmp_path)
    with pytest.raises(DataError, match="images must lie in label/ or label/attribute/"):
        load(tmp_path, options={"top": "label"})
    one_less = tmp_path / "labels"
    class_folders(one_less, levels=1)
    found = read(one_less, options={"top": "label"}, split_fractions=(0.5, 0.25, 0.25))
    assert {e.label for e in found.entries} == {"train", "val", "test"}
    assert {e.attribute for e in found.entries} == {"cat", "dog"}


def test_a_table_in_split_folders_by_other_names(tmp_path: Path) -> None:
    for split, folder in (("train", "training_set"), ("val", "val_set"), ("test", "test_set")):
        rows = [(name, y, a) for name, y, a, s in ROWS if s == split]
        put(tmp_path / folder / "metadata.csv", csv_text([HEADER[:3], *rows]))
    assert splits_of(tmp_path) == {"train": 8, "val": 8, "test": 8}


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JPEG", ".mpo"])
def test_images_with_rare_endings_are_read(tmp_path: Path, ending: str) -> None:
    assert splits_of(class_folders(tmp_path, ending=ending)) == {"train": 8, "val": 8, "test": 8}


@pytest.mark.parametrize("ending", [".HEIC", ".avif", ".jp2", ".jxl"])
def test_images_that_are_not_read_are_counted_and_named(tmp_path: Path, ending: str) -> None:
    class_folders(tmp_path)
    put(tmp_path / "train" / "cat" / "in" / f"IMG_1{ending}", b"\0\0\0\x18ftypheic" + bytes(500))
    found = inspected(tmp_path)
    (bad,) = found["quarantine"]["files"]
    assert bad["path"].endswith(ending) and bad["reason"] == "format"
    assert found["images"] == {"input": 25, "used": 24, "quarantined": 1, "excluded": 0, "not_named": 0}


def test_only_two_splits(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train": "train", "val": "val", "test": "val"})
    problem = "the dataset has no images in split 'test'; found: {'train': 8, 'val': 16}; let it be taken from another, seeded: --data.split_from '{test: val}'"
    assert problem in inspected(tmp_path)["problems"]
    assert splits_of(tmp_path, split_from={"test": "val"}) == {"train": 8, "val": 8, "test": 8}
    assert splits_of(tmp_path, split_from={"test": "val"}, split_fractions=(0.5, 0.1, 0.3)) == {
        "train": 8,
        "val": 4,
        "test": 12,
    }
    one, other = (read(tmp_path, split_from={"test": "val"}, split_seed=seed).entries for seed in (0, 1))
    assert one == read(tmp_path, split_from={"test": "val"}).entries != other
    assert {e.path for e in one if e.split == "train"} == {e.path for e in read(tmp_path).entries if e.split == "train"}
    unused = read(tmp_path, split_fractions=(0.7, 0.1, 0.2)).remarks
    assert unused == ["data.split_fractions is not used: the dataset has splits of its own"]
    with pytest.raises(DataError, match="takes val from test, but the dataset has: train, val"):
        load(tmp_path, split_from={"val": "test"})


def test_thumbnails_beside_images_are_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for path in sorted(tmp_path.glob("*/*/*/*.jpg")):
        put(path.with_suffix("") / "x" / path.name / "thumb.jpg", image(0))
    found = read(tmp_path)
    assert len(found.entries) == 24 and {image.reason for image in found.excluded} == {"beside_an_image"}
    assert found.total == 48


def sample(key: str, number: int, text: str = "json", **fields: str) -> list[tuple[str, bytes]]:
    """A sample of a shard."""
    body = json.dumps({"label": "cat", "attribute": "in"} | fields).encode()
    return [(f"{key}.jpg", image(number)), (f"{key}.{text}", body)]


def test_keys_with_dots(tmp_path: Path) -> None:
    members = [member for i in range(3) for member in sample(f"v1.{i:03d}", i)]
    write_tar(tmp_path / "train-0000.tar", members)
    with pytest.raises(
        DataError, match=r"several dots \(v1\.000\.jpg\).* 3 images share the key 'v1'.*key_ends: last dot"
    ):
        load(tmp_path)
    found = load(tmp_path, options={"key_ends": "last dot"})
    assert [e.path for e in found.entries] == [f"train-0000.tar/v1.{i:03d}.jpg" for i in range(3)]
    # One sample a key, as 22.05.jpg: the text beside it would be overlooked.
    write_tar(tmp_path / "train-0000.tar", [m for i in range(3) for m in sample(f"{i}.05", i)])
    with pytest.raises(DataError, match=r"several dots \(0\.05\.jpg\)"):
        load(tmp_path)


def test_the_label_in_cls_and_the_rest_in_json(tmp_path: Path) -> None:
    members = []
    for i in range(2):
        body = json.dumps({"attribute": "in", "caption": "x"}).encode()
        members += [
            (f"{i}.jpg", image(i)),
            (f"{i}.cls", str(i).encode()),
            (f"{i}.json", body),
            (f"{i}.txt", b"a caption"),
        ]
    write_tar(tmp_path / "train.tar", members)
    assert [(e.label, e.attribute) for e in load(tmp_path).entries] == [("0", "in"), ("1", "in")]
    write_tar(tmp_path / "train.tar", [member for member in members if not member[0].endswith(".cls")])
    with pytest.raises(DataError, match=r"the JSON in .* has no column 'label'"):  # a text beside a JSON is a caption
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["waterbirds_train_000.tar", "shards-val-0.tar", "a/b/testing/00.tar", "train/x-00.tar"]
)
def test_the_split_of_a_shard_by_a_word_of_its_name(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / name, sample("a", 1))
    (found,) = load(tmp_path, format="webdataset").entries
    assert found.split in name or (found.split == "test" and "testing" in name)


def test_copies_in_a_dataset_without_a_split(tmp_path: Path) -> None:
    for number, (name, y, a, _) in enumerate(ROWS):
        put(tmp_path / y / a / name, image(number if number != 9 else 8))
    found = inspected(tmp_path)
    assert found["problems"][0].startswith("the dataset has no split; add a column") and found["images"]["input"] == 24


def test_shares_that_leave_a_split_nothing(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train": "train", "val": "val", "test": "val"})
    for fractions in ((1, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5)):
        with pytest.raises(DataError, match=r"data\.split_fractions leaves nothing to test or to val"):
            load(tmp_path, split_from={"test": "val"}, split_fractions=fractions)


def test_one_split_alone(tmp_path: Path) -> None:
    class_folders(tmp_path, dict.fromkeys(BY_PATH, "train"))
    asked = "--data.split_from '{val: train, test: train}'"
    assert sum(asked in problem for problem in inspected(tmp_path)["problems"]) == 2
    assert all(splits_of(tmp_path, split_from={"val": "train", "test": "train"}).values())


def test_the_shard_says_the_split_and_not_the_member(tmp_path: Path) -> None:
    for number, (name, *_) in enumerate(ROWS[:2]):
        members = [(f"test_{name}", image(number)), (f"test_{name[:-4]}.json", b'{"label": "x", "attribute": "p"}')]
        write_tar(tmp_path / f"train-{number}.TAR", members)
    assert {e.split for e in load(tmp_path).entries} == {"train"}

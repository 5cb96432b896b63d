"""UTKFace: the names are the metadata, and some of them are wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.metadata import SetAside
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from tests.support.data.dataset_files import load, put
from tests.support.data.layouts import utkface, utkface_names

# As they are in the published releases, in the wild and (with .chip.jpg) cropped.
MALFORMED = [
    ("61_1_20170109142408075.jpg", "race is '20170109142408075'"),
    ("61_3_20170109150557335.jpg", "gender is '3'"),
    ("39_1_20170116174525125.jpg", "race is '20170116174525125'"),
    ("53__0_20170116184028385.jpg", "gender is ''"),
    ("55_0_0_20170116232725357jpg", "time is '20170116232725357jpg'"),
    ("24_0_1_20170116220224657 .jpg", "a blank before the ending"),
    ("44_1_4_20170116235150272.pg", "the ending is '.pg'"),
    ("61_1_20170109142408075.jpg.chip.jpg", "race is '20170109142408075'"),
    ("55_0_0_20170116232725357jpg.chip.jpg", "time is '20170116232725357jpg'"),
    ("24_0_1_20170116220224657 .jpg.chip.jpg", "a blank before the ending"),
]


def test_the_malformed_names_are_set_aside_and_none_is_misread(tmp_path: Path) -> None:
    utkface(tmp_path, names=[*utkface_names(), *(name for name, _ in MALFORMED)])
    metadata = load(tmp_path)
    expected = [SetAside(f"UTKFace/{name}", "malformed_name", detail) for name, detail in MALFORMED]
    assert sorted(metadata.quarantined) == sorted(expected)
    assert len(metadata.entries) + len(metadata.excluded) == len(utkface_names())


@pytest.mark.parametrize("name", [
    "20_2_0_20170116174525125.jpg", "20_0_5_20170116174525125.jpg", "-1_0_0_20170116174525125.jpg", "20_0_0_2017.jpg", "1000_0_0_20170116174525125.jpg",
    "20_0_0_20170116174525125.jpg.jpg", "20_0_0_20170116174525125.jpg.chip.jpg.bak.jpg", "a20_0_0_20170116174525125.jpg", "face.jpg",
    "٢٠_0_0_20170116174525125.jpg", "20_0_0_20170116174525125.jpg\n.jpg",
])  # fmt: skip
def test_other_names_that_do_not_fit_are_set_aside_as_well(tmp_path: Path, name: str) -> None:
    utkface(tmp_path, names=[*utkface_names(), name])
    (found,) = load(tmp_path).quarantined
    assert found[:2] == (f"UTKFace/{name}", "malformed_name") and found.detail


@pytest.mark.parametrize("ending", [".JPG", ".png", ".jpeg", ".jpg.chip.jpg", ".JPG.chip.png"])
def test_copies_in_other_formats_are_read(tmp_path: Path, ending: str) -> None:
    utkface(tmp_path, names=[name.partition(".")[0] + ending for name in utkface_names()])
    metadata = load(tmp_path)
    assert not metadata.quarantined and metadata.total == len(utkface_names())


def test_ages_become_bins_with_both_ends_and_other_ages_are_left_out(tmp_path: Path) -> None:
    ages = {0: "young", 5: "young", 6: "", 19: "", 20: "old", 50: "old", 51: "", 116: ""}
    names = {f"{age}_1_2_20170116174525125.jpg": expected for age, expected in ages.items()}
    utkface(tmp_path, names=list(names))
    metadata = load(tmp_path)
    assert {e.path: e.attribute for e in metadata.entries} == {f"UTKFace/{n}": a for n, a in names.items() if a}
    assert {e.label for e in metadata.entries} == {"1"}
    assert {a.path for a in metadata.excluded} == {f"UTKFace/{n}" for n, a in names.items() if not a}
    assert {a.reason for a in metadata.excluded} == {"outside_age_bins"}


@pytest.mark.parametrize(
    ("options", "label", "attribute"),
    [
        ({}, {"0", "1"}, {"young", "old"}),
        ({"options": {"label": "race", "attribute": "gender"}}, {"0", "1", "2", "3", "4"}, {"0", "1"}),
        ({"options": {"label": "age", "attribute": "gender"}}, {"young", "old"}, {"0", "1"}),
        ({"label_column": "race"}, {"0", "1", "2", "3", "4"}, {"young", "old"}),
        ({"options": {"attribute": "age"}, "attribute_column": "race"}, {"0", "1"}, {"0", "1", "2", "3", "4"}),
        ({"options": {"age_bins": {"a": [1, 9], "b": [10, 60]}}}, {"0", "1"}, {"a", "b"}),
    ],
)
def test_label_and_attribute_can_be_chosen(
    tmp_path: Path, options: dict[str, Any], label: set[str], attribute: set[str]
) -> None:
    found = load(utkface(tmp_path), **options).entries
    assert {e.label for e in found} == label and {e.attribute for e in found} == attribute


def test_several_attributes_combine_and_ages_count_only_where_used(tmp_path: Path) -> None:
    utkface(tmp_path)
    both = load(tmp_path, attribute_column=("age", "race"))
    assert "age=young, race=1" in {e.attribute for e in both.entries} and both.excluded
    without = load(tmp_path, attribute_column="race")
    assert not without.excluded and len(without.entries) == 60
    hidden = load(tmp_path, attribute="discover", attribute_column="race").entries
    assert {e.attribute for e in hidden} == {""} and {e.true_attribute for e in hidden} == set("01234")


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    utkface(tmp_path)
    for options, expected in (
        ({"label": "hair"}, "data.options.label"),
        ({"age_bins": {"a": [0, 20], "b": [20, 50]}}, "data.options.age_bins: .*'a' and 'b' overlap"),
        ({"age_bins": {"a": [9, 1]}}, "data.options.age_bins: .*'a' must have a name and a range from low to high"),
        ({"age_bins": {"a": [1]}}, "data.options.age_bins.a"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load(tmp_path, options=options)
    with pytest.raises(DataError, match=r"gender is both label and attribute; choose another: --data\.label_column or"):
        load(tmp_path, attribute_column=("race", "gender"))
    with pytest.raises(DataError, match=r"no column 'genders' \(did you mean 'gender'\?\); it has: age, gender, race"):
        load(tmp_path, label_column="genders")


def test_the_split_does_not_depend_on_the_order_in_which_files_were_made(tmp_path: Path) -> None:
    names = utkface_names(600)
    utkface(tmp_path / "a", names=names)
    utkface(tmp_path / "b", names=random.Random(0).sample(names, len(names)))
    one, other = load(tmp_path / "a"), load(tmp_path / "b")
    assert one.entries == other.entries
    for gender in "01":
        for age in ("young", "old"):
            splits = [e.split for e in one.entries if (e.label, e.attribute) == (gender, age)]
            n = len(splits)
            assert n >= 20 and [splits.count(s) for s in ("train", "val", "test")] == [
                round(0.8 * n), round(0.9 * n) - round(0.8 * n), n - round(0.9 * n)
            ]  # fmt: skip
    assert {e.path for e in one.entries if e.split == "test"} != {
        e.path for e in load(tmp_path / "a", split_seed=1).entries if e.split == "test"
    }
    assert one.remarks == ["the dataset has no split of its own: made with shares 0.8, 0.1, 0.1 and data.split_seed 0"]


def test_files_in_any_folder_count_and_others_are_ignored(tmp_path: Path) -> None:
    name = "3_0_1_20170116174525125.jpg"
    utkface(tmp_path, "part1", [name])
    utkface(tmp_path, "a/b/c/crop", [name, "30_1_1_20170116174525125.jpg.chip.jpg"])
    put(tmp_path / "landmark_list_part1.txt", "x")
    put(tmp_path / "part1" / ".DS_Store", "x")
    metadata = dataset.reader("utkface").read(Storage(str(tmp_path)), DataConfig())
    assert [e.path for e in metadata.entries] == [
        "a/b/c/crop/30_1_1_20170116174525125.jpg.chip.jpg", f"a/b/c/crop/{name}", f"part1/{name}"
    ]  # fmt: skip
    assert metadata.remarks == ["1 files are no images by their names and were ignored: landmark_list_part1.txt"]
    assert not metadata.quarantined

"""Words for splits."""

from __future__ import annotations

import pytest

from fairsynth.data.rules.split_words import exact_split, meaning, split_in, split_of


@pytest.mark.parametrize(("word", "split"), [
    ("train", "train"), (" Training ", "train"), ("training_set", "train"), ("train2017", "train"), ("seg_train", "train"),
    ("Train_data", "train"), ("trainset", "train"), ("training-images-1", "train"), ("VAL", "val"), ("valid_set", "val"), ("dev", "val"),
    ("Validation data", "val"), ("valset", "val"), ("test1", "test"), ("testing", "test"), ("testdata", "test"),
])  # fmt: skip
def test_words_that_are_splits(word: str, split: str) -> None:
    assert split_of(word) == split


@pytest.mark.parametrize("word", [
    "", " ", "1", "cat", "trainer", "trains", "contest", "train_cat", "train_test", "validity", "set", "images", "trainvaltest", "tr\u00e4in",
    "retrain", "unlabeled",
])  # fmt: skip
def test_words_that_are_none(word: str) -> None:
    assert split_of(word) is None


def test_the_very_words_alone() -> None:
    assert exact_split(" Dev ") == "val" and exact_split("train2017") is None


@pytest.mark.parametrize(("name", "split"), [
    ("train-00000-of-00001", "train"), ("Validation", "val"), ("waterbirds_test_3", "test"), ("train_val", ""), ("train_test_split.csv", ""),
    ("0000", ""), ("faces_label_val", "val"), ("data.v1.train-0.tar", "train"), ("train-train2.csv", "train"),
])  # fmt: skip
def test_the_split_in_a_files_name(name: str, split: str) -> None:
    assert (split_of(split_in(name, {})) or "") == split


def test_further_words() -> None:
    names = {"fold1": "train", "2": "drop"}
    assert meaning(" fold1", names) == "train" and meaning("2.0", names) == "drop" and meaning("dev", names) == "val"
    assert split_in("fold1-000.tar", names) == "fold1" and split_in("x_2.tar", names) == "2"

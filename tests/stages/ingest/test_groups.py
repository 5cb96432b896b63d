"""Groups that the metadata lack: told, or a reason to refuse the dataset, before any image is opened."""

from __future__ import annotations

from typing import Any

import pytest

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS
from fairsynth.stages.ingest.decide import check_groups


def entry(path: str, split: str = "train", label: str = "x", attribute: str = "p") -> Entry:
    """An image."""
    return Entry(path, split, label, attribute)


def whole(n: int = 2) -> list[Entry]:
    """A complete dataset: n images of each group in each split."""
    return [entry(f"{s}{y}{a}{i}", s, y, a) for s in SPLITS for y in "xy" for a in "pq" for i in range(n)]


def refused(entries: list[Entry], **options: Any) -> str:
    """Why metadata are refused."""
    with pytest.raises(DataError) as caught:
        check_groups(entries, DataConfig(**options))
    return str(caught.value)


def test_complete_metadata_have_no_remarks() -> None:
    assert check_groups(whole(), DataConfig()) == []


def test_there_must_be_three_splits_two_labels_and_two_attributes() -> None:
    for split in SPLITS:
        assert f"no images in split {split!r}; found: " in refused([e for e in whole() if e.split != split])
    assert "the training split has the single label 'x'" in refused([e for e in whole() if e.label == "x"])
    unseen = refused([*whole(), entry("z", "test", "z")])
    assert unseen.startswith("label 'z' occurs only outside the training split; training has: x, y; give it training")
    same = [e for e in whole() if e.attribute == "p"]
    assert "every image has the same attribute" in refused(same)
    assert "--data.attribute discover" in refused(same)
    assert check_groups(same, DataConfig(attribute="discover")) == []


def test_a_group_without_validation_images_is_refused_unless_that_is_allowed() -> None:
    entries = [e for e in whole() if (e.split, e.label, e.attribute) != ("val", "x", "q")]
    text = refused(entries)
    assert text.startswith("group (x, q) has no validation images, so worst-group accuracy cannot be judged on it; add")
    assert text.endswith("--data.allow_missing true")
    both = [e for e in entries if (e.split, e.label, e.attribute) != ("val", "y", "p")]
    assert "(nor 1 more groups)" in refused(both)
    remark = "group (x, q) has no validation images: settings are chosen without it"
    assert check_groups(entries, DataConfig(allow_missing=True)) == [remark]


def test_groups_that_are_missing_elsewhere_are_told() -> None:
    entries = [e for e in whole() if (e.split, e.label, e.attribute) not in {("train", "x", "q"), ("test", "y", "p")}]
    assert check_groups(entries, DataConfig()) == [
        "group (x, q) has no training images: nothing to learn it from, it is not synthesised",
        "group (y, p) has no test images: its accuracy is undefined (n = 0)",
    ]
    # A group that is nowhere but whose label and attribute are: told as well.
    nowhere = [e for e in whole() if (e.label, e.attribute) != ("x", "q")]
    assert [text.split(":")[0] for text in check_groups(nowhere, DataConfig())] == [
        "group (x, q) has no training images",
        "group (x, q) has no test images",
    ]

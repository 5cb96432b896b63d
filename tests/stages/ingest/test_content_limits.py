"""How much a dataset may lose before it is refused: bad files, contradictions, leaks, whole groups."""

from __future__ import annotations

import pytest

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.errors import DataError
from fairsynth.stages.ingest.content import check_conflicts, check_groups_left, check_leaks, check_losses, examine
from tests.support.ingesting import checked_as


def entry(path: str, split: str = "train", label: str = "x", attribute: str = "p") -> Entry:
    """An image."""
    return Entry(path, split, label, attribute)


GROUP_OF_40 = [entry(f"{i:03d}", attribute="p" if i < 40 else "q") for i in range(100)]


@pytest.mark.parametrize(("lost", "refused"), [(5, False), (6, True)])
def test_the_limit_of_bad_images_counts_those_of_the_reader(lost: int, refused: bool) -> None:
    metadata = Metadata(GROUP_OF_40, [SetAside(f"gone{i}", "no_partition") for i in range(lost - 2)])
    seen = examine(metadata, checked_as(GROUP_OF_40, lambda e: (e.path, "empty" if e.path in ("041", "042") else "")))
    config = DataConfig(max_bad_fraction=5 / (98 + lost))
    if not refused:
        return check_losses(config, metadata, seen)
    message = (
        r"^6 of 104 images cannot be used \(no_partition 4, empty 2\), .*0\.048\S* allows; first: 'gone0'\. 'fairs"
    )
    with pytest.raises(DataError, match=message):
        check_losses(config, metadata, seen)


def test_the_limit_of_a_group_holds_though_the_dataset_as_a_whole_is_good() -> None:
    seen = examine(
        Metadata(GROUP_OF_40), checked_as(GROUP_OF_40, lambda e: (e.path, "empty" if e.path < "003" else ""))
    )
    check_losses(DataConfig(max_bad_fraction=0.03, max_bad_group_fraction=0.075), Metadata(GROUP_OF_40), seen)
    message = r"^3 of 40 images of group \(x, p\) cannot be used, more than data\.max_bad_group_fraction 0\.07 allows"
    with pytest.raises(DataError, match=message):
        check_losses(DataConfig(max_bad_fraction=0.03, max_bad_group_fraction=0.07), Metadata(GROUP_OF_40), seen)


def test_the_limit_of_conflicts() -> None:
    entries = [*GROUP_OF_40[:98], entry("y1", label="y"), entry("y2", label="y")]
    seen = examine(Metadata(entries), checked_as(entries, lambda e: ("000" if e.path == "y1" else e.path, "")))
    assert len(seen.conflicts) == 2
    check_conflicts(DataConfig(max_conflict_fraction=0.02), Metadata(entries), seen)
    message = (
        r"^2 of 100 images occur under different labels .*fraction 0\.001 allows; first: '000', same content as y1"
    )
    with pytest.raises(DataError, match=message):
        check_conflicts(DataConfig(), Metadata(entries), seen)


def test_the_limit_of_leaks_is_of_training_images() -> None:
    entries = [*GROUP_OF_40, *(entry(f"v{i}", "val") for i in range(5)), entry("w", "test"), entry("z", "test")]
    shared = {"v0": "000", "v1": "001", "w": "v2", "z": "v3"}  # two of training, two of validation
    seen = examine(Metadata(entries), checked_as(entries, lambda e: (shared.get(e.path, e.path), "")))
    assert set(seen.leaks) == {"000", "001", "v2", "v3"}
    check_leaks(DataConfig(max_leak_fraction=0.02), Metadata(entries), seen)
    message = r"^2 of 100 training images are in another split too, .*0\.01 allows; first: '000', same content as v0 in val; up to that share"
    with pytest.raises(DataError, match=message):
        check_leaks(DataConfig(), Metadata(entries), seen)


def test_a_group_that_is_lost_in_one_split_is_refused() -> None:
    entries = [entry("a"), entry("b", attribute="q"), entry("c", "val"), entry("d", "val", attribute="q")]
    whole = examine(Metadata(entries), checked_as(entries, lambda e: (e.path, "")))
    check_groups_left(DataConfig(), Metadata(entries), whole)
    seen = examine(Metadata(entries), checked_as(entries, lambda e: (e.path, "empty" if e.path == "d" else "")))
    with pytest.raises(
        DataError, match=r"^no usable image is left of split val, group \(x, q\); .fairsynth inspect. says why"
    ):
        check_groups_left(DataConfig(), Metadata(entries), seen)

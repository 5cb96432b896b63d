"""A split for data that has none: the given shares in every group, decided by seed and path alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.metadata import Entry, combine
from fairsynth.data.rules.split_making import assign_splits, split_sizes
from fairsynth.data.rules.split_words import split_of
from fairsynth.manifest import SPLITS

SHARES = (0.7, 0.1, 0.2)
SIZES = {("x", "p"): 200, ("x", "q"): 30, ("y", "p"): 10, ("y", "q"): 1}
ENTRIES = [Entry(f"{y}{a}/{i:03d}.png", "", y, a) for (y, a), n in SIZES.items() for i in range(n)]


def by_path(entries: Sequence[Entry], shares: Sequence[float] = SHARES, seed: int = 0) -> dict[str, str]:
    """The split of each path."""
    return {entry.path: entry.split for entry in assign_splits(entries, shares, seed)}


def test_every_group_is_divided_in_the_given_shares() -> None:
    counts = Counter((e.label, e.attribute, e.split) for e in assign_splits(ENTRIES, SHARES, 0))
    for group, sizes in {("x", "p"): (140, 20, 40), ("x", "q"): (21, 3, 6), ("y", "p"): (7, 1, 2)}.items():
        assert tuple(counts[*group, split] for split in SPLITS) == sizes
    assert counts["y", "q", "train"] == 1  # a single image is for training


def test_nothing_but_the_split_is_changed() -> None:
    made = assign_splits(ENTRIES, SHARES, 0)
    assert [entry._replace(split="") for entry in made] == ENTRIES
    assert {entry.split for entry in made} == set(SPLITS)


def test_the_order_of_the_entries_changes_nothing() -> None:
    expected = by_path(ENTRIES)
    for seed in range(5):
        assert by_path(random.Random(seed).sample(ENTRIES, len(ENTRIES))) == expected


def test_other_groups_change_nothing() -> None:
    group = [e for e in ENTRIES if (e.label, e.attribute) == ("x", "q")]
    assert by_path(ENTRIES).items() >= by_path(group).items()


def test_seeds_make_different_splits_and_do_not_follow_the_names() -> None:
    zero, one = by_path(ENTRIES), by_path(ENTRIES, seed=1)
    assert zero != one and Counter(zero.values()) == Counter(one.values())
    names = [zero[e.path] for e in ENTRIES[:200]]
    assert names != sorted(names, key=SPLITS.index)


def test_an_attribute_to_be_discovered_does_not_steer_the_split() -> None:
    hidden = [e._replace(attribute="", true_attribute=e.attribute) for e in ENTRIES]
    blank = [e._replace(attribute="") for e in ENTRIES]
    assert by_path(hidden) == by_path(blank)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.tuples(*[st.integers(0, 10)] * 3).filter(any),
    st.integers(0, 9),
)
@settings(deadline=None, max_examples=50)
def test_every_image_gets_one_split_and_shares_are_kept_up_to_rounding(
    sizes: list[int], parts: tuple[int, int, int], seed: int
) -> None:
    entries = [Entry(f"{y}-{i}", "", str(y), "a") for y, n in enumerate(sizes) for i in range(n)]
    shares = [part / sum(parts) for part in parts]
    made = assign_splits(entries, shares, seed)
    assert [e.path for e in made] == [e.path for e in entries]
    counts = Counter((e.label, e.split) for e in made)
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share]
    for y, n in enumerate(sizes):
        assert sum(counts[str(y), split] for split in SPLITS) == n
        # Rounding, and one more for each split that would have nothing otherwise.
        assert all(abs(counts[str(y), s] - n * share) <= 3 for s, share in zip(SPLITS, shares, strict=True))
        if n * min(filter(None, shares)) >= 2:  # enough for all by their shares alone
            assert all(abs(counts[str(y), s] - n * share) <= 1 for s, share in zip(SPLITS, shares, strict=True))
        assert n < len(wanted) or all(counts[str(y), split] for split in wanted)
        assert not any(counts[str(y), split] for split in SPLITS if split not in wanted)


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "train") for word in ("train", "Training", " TRAIN ")),
        *((word, "val") for word in ("val", "valid", "validation", "dev", "Dev")),
        *((word, "test") for word in ("test", "testing")),
        *((word, None) for word in ("", "0", "trains", "all", "eval", "train/x")),
    ],
)
def test_usual_words_for_splits_are_known(word: str, split: str | None) -> None:
    assert split_of(word) == split


def test_several_attributes_combine_into_one_and_stay_apart() -> None:
    assert combine(["sex"], ["1"]) == "1"
    assert combine(["sex", "age"], ["1", "old"]) == "sex=1, age=old"
    assert combine(["sex", "age"], ["1", ""]) == ""  # a part is unknown: so is the whole
    assert combine([], []) == ""


@pytest.mark.parametrize(
    ("n", "sizes"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (4, [2, 1, 1]), (10, [7, 1, 2])]
)
def test_small_groups_have_images_in_every_split_if_they_can(n: int, sizes: list[int]) -> None:
    assert split_sizes(n, (0.7, 0.1, 0.2)) == sizes


def test_a_split_without_a_share_gets_nothing() -> None:
    assert split_sizes(5, (0.8, 0.2, 0.0)) == [4, 1, 0]

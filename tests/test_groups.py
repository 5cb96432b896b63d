"""Groups, and figures over them, against independent definitions."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fairsynth.errors import DataError
from fairsynth.groups import Group, group_index
from fairsynth.metrics import mean_interval, score, wilson
from fairsynth.preflight import check_folders

WORDS = ["a", "b", "a--b", "b--a", "a b", "a/b", "../..", "..", ".", "/", "'\"`", "\u00e4", "a\u0308", "日本", "\n", "\0", "x" * 300, "A",
         "a--", "group", "-rf", "<img>", "con.", "🐦", "x" * 301]  # fmt: skip
LAND_LAND, LAND_WATER, WATER_LAND, WATER_WATER = GROUPS = [Group(y, a) for y in "01" for a in "01"]
TRAIN = dict(zip(GROUPS, (3498, 184, 56, 1057), strict=True))


def test_group_index_counts_attributes_within_labels() -> None:
    indices = group_index(np.array([0, 0, 1, 1, 2]), np.array([0, 2, 1, 0, 2]), 3)
    assert indices.tolist() == [0, 2, 4, 3, 8]


@given(st.text(), st.text())
@settings(deadline=None)
def test_a_slug_is_one_plain_folder_name(label: str, attribute: str) -> None:
    slug = Group(label, attribute).slug
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", slug)


def test_plain_groups_have_readable_slugs() -> None:
    assert Group("low", "building").slug == "low--building"
    assert Group("Land bird", "water").slug.startswith("Land-bird--water-")


def test_slugs_of_different_groups_differ() -> None:
    groups = [Group(label, attribute) for label, attribute in itertools.product(WORDS, repeat=2)]
    assert len({group.slug for group in groups}) == len(WORDS) ** 2
    assert max(len(group.slug) for group in groups) <= 80  # file systems end at 255 bytes


@given(*[st.tuples(st.text("ab-", max_size=3), st.text("ab-", max_size=3))] * 2)
@settings(deadline=None, max_examples=2000, derandomize=True, database=None)
def test_slugs_of_groups_with_dashes_differ(one: tuple[str, str], two: tuple[str, str]) -> None:
    assert one == two or Group(*one).slug != Group(*two).slug
    assert Group("a-", "b").slug != Group("a", "-b").slug


# Newcombe 1998, table I, method 3; the last: 84.1 % of 180 images.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (0.841 * 180, 180, 0.781, 0.887)],
)  # fmt: skip
def test_wilson_gives_published_intervals(successes: float, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-4 if n == 180 else 5.1e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_wilson_agrees_with_scipy(pair: tuple[int, int]) -> None:
    assert wilson(*pair) == pytest.approx(tuple(binomtest(*pair).proportion_ci(0.95, "wilson")), abs=1e-6)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


def predictions(per_group: dict[Group, tuple[int, int]]) -> tuple[list[bool], list[Group]]:
    """(n, right) per group as one list of images."""
    pairs = [(i < right, group) for group, (n, right) in per_group.items() for i in range(n)]
    return [right for right, _ in pairs], [group for _, group in pairs]


def test_the_three_averages_on_waterbirds() -> None:
    right = dict(zip(GROUPS, ((2255, 2200), (2255, 1700), (642, 450), (642, 600)), strict=True))
    scores = score(*predictions(right), GROUPS, TRAIN)
    assert scores.accuracy == pytest.approx(4950 / 5794)
    assert scores.accuracy_group_mean == pytest.approx(0.84125101)  # (.975610 + .753880 + .700935 + .934579) / 4
    assert scores.accuracy_train_prior == pytest.approx(0.95484874)  # 3498/4795 * .975610 + 184/4795 * .753880 + ...
    assert scores.worst_group_accuracy == pytest.approx(450 / 642)
    assert (scores.worst.group, scores.worst.n) == (WATER_LAND, 642)
    assert [(g.group, g.n, g.correct) for g in scores.groups] == [(g, *right[g]) for g in GROUPS]


def test_an_empty_group_has_no_accuracy_and_is_never_the_worst() -> None:
    scores = score(*predictions({LAND_LAND: (10, 9), LAND_WATER: (10, 8), WATER_WATER: (10, 6)}), GROUPS, TRAIN)
    empty = scores.groups[2]
    assert (empty.group, empty.n, empty.accuracy) == (WATER_LAND, 0, None)
    assert scores.worst.group == WATER_WATER and scores.worst_group_accuracy == pytest.approx(0.6)
    assert scores.accuracy_group_mean == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    prior = (3498 * 0.9 + 184 * 0.8 + 1057 * 0.6) / (3498 + 184 + 1057)
    assert scores.accuracy_train_prior == pytest.approx(prior)


def test_a_group_that_is_always_wrong_is_the_worst_with_zero() -> None:
    scores = score(*predictions({LAND_LAND: (3, 3), WATER_WATER: (2, 0)}), GROUPS, TRAIN)
    assert scores.worst_group_accuracy == 0 and scores.worst.group == WATER_WATER


def test_no_images_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="no images"):
        score([], [], GROUPS, TRAIN)


def test_mean_interval_by_hand() -> None:
    # mean .74, deviation .04, t(2; .975) = 4.302653: .74 -+ 4.302653 * .04 / sqrt 3
    assert mean_interval([0.70, 0.74, 0.78]) == pytest.approx((0.640634, 0.839366), abs=1e-6)
    # mean .85, error .05, t(1; .975) = 12.7062; accuracies end at 1
    assert mean_interval([0.8, 0.9]) == pytest.approx((0.214690, 1.0), abs=1e-6)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert mean_interval([0.8]) is None


def test_two_groups_never_share_a_folder() -> None:
    # Their hashes have the same 32 bits: found by 61,730 tries.
    twins = [Group("乘乳", "A"), Group("亚亂", "A")]
    assert twins[0].slug == twins[1].slug
    with pytest.raises(
        DataError, match=r"the groups .* would have one folder, A-a803eba5; change a value of one of them"
    ):
        check_folders(twins)
    cases = [Group("High", "x"), Group("high", "x")]
    check_folders(cases)
    with pytest.raises(
        DataError, match=r"\(High, x\) and \(high, x\) would have one folder, high--x on the output folder's disk"
    ):
        check_folders(cases, case_counts=False)

"""A difference counts if neither training seeds nor the number of test images could be its reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fairsynth.groups import Group
from fairsynth.metrics import GroupAccuracy, MethodScores, Scores
from fairsynth.verdict import by_images, compared, exact

GROUPS = [Group(y, a) for y in "xy" for a in "pq"]


def scores(*right_of: tuple[int, int]) -> Scores:
    """Of each group so many right of so many images."""
    groups = tuple(GroupAccuracy(group, n, right) for group, (right, n) in zip(GROUPS, right_of, strict=False))
    right, n = (sum(values) for values in zip(*right_of, strict=True))
    worst = min((g for g in groups if g.n), key=lambda g: g.correct / g.n)
    return Scores(groups, right / n, 0, 0, worst)


def method(*seeds: Scores) -> MethodScores:
    return MethodScores("m", tuple(range(len(seeds))), seeds)


def alike(*worst: float, n: int = 1000) -> MethodScores:
    """A method of one group of n images, right in these shares, one for each seed."""
    return method(*(scores((round(share * n), n)) for share in worst))


def verdict(ours: MethodScores, theirs: MethodScores) -> str:
    return str(compared([ours], [theirs])["verdict"])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((0.80, 0.82, 0.81), (0.70, 0.71, 0.70), "improved"),
        ((0.70, 0.71, 0.70), (0.80, 0.82, 0.81), "not improved"),
        ((0.70, 0.71, 0.72), (0.70, 0.71, 0.72), "inconclusive"),  # other images could part them
        ((0.90, 0.60, 0.80), (0.60, 0.70, 0.70), "inconclusive"),  # mean +.1, over seeds -.397 to .597
        ((0.99, 0.99), (0.01, 0.02), "improved"),
        ((0.80, 0.90), (0.70, 0.60), "inconclusive"),  # +.1 and +.3: two seeds, t = 12.7
        # Paired: each seed gains .08 though the seeds themselves lie far apart.
        ((0.30, 0.60, 0.90), (0.22, 0.521, 0.82), "improved"),
    ],
)
def test_the_verdict_needs_seeds_that_agree(ours: tuple[float, ...], theirs: tuple[float, ...], expected: str) -> None:
    assert verdict(alike(*ours), alike(*theirs)) == expected


def test_one_test_image_or_a_few_show_nothing_however_steady_the_seeds() -> None:
    for n in range(1, 10):
        found = compared([alike(1.0, 1.0, 1.0, n=n)], [alike(0.0, 0.0, 0.0, n=n)])
        assert found["mean"] == 1 and found["ci95_repeats"] == [1, 1] and found["verdict"] == "inconclusive"
        images = "1 test image" if n == 1 else f"{n} test images"
        assert found["why"] == f"a worst group, {GROUPS[0]}, has {images}; at least 10 are needed"
    assert compared([alike(1.0, 1.0, n=2)], [alike(0.0, 0.0, n=2)])["ci95"][0] < 0
    assert verdict(alike(1.0, 1.0, n=10), alike(0.0, 0.0, n=10)) == "improved"


def test_a_steady_tenth_of_a_point_is_no_improvement_with_few_hundred_images() -> None:
    ours, theirs = alike(0.901, 0.911, 0.891), alike(0.9, 0.91, 0.89)
    found = compared([ours], [theirs])
    assert found["ci95_repeats"] == pytest.approx([0.001, 0.001]) and found["verdict"] == "inconclusive"
    assert found["why"] == f"the test images are too few to show it: {GROUPS[0]} has 1000"
    many = [alike(*(s.worst_group_accuracy for s in one.scores), n=10_000_000) for one in (ours, theirs)]
    assert verdict(*many) == "improved"


def test_with_very_many_images_it_is_a_paired_t_test() -> None:
    seen = set()
    for gain in (0.02, 0.03, 0.04, 0.05, 0.06, 0.08):
        ours, theirs = (0.70 + gain, 0.72 + gain / 2, 0.75 + gain), (0.71, 0.70, 0.74)
        known = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        found = compared([alike(*ours, n=10**11)], [alike(*theirs, n=10**11)])
        assert found["ci95"] == pytest.approx([known.low, known.high], abs=1e-4)
        assert (found["verdict"] == "improved") == (known.low > 0)
        seen.add(bool(known.low > 0))
    assert seen == {True, False}


def test_with_seeds_that_do_not_differ_the_bounds_are_the_two_methods_added_by_squares() -> None:
    found = compared([alike(0.9, 0.9, n=200)], [alike(0.6, 0.6, n=200)])
    ours, theirs = (stats.binomtest(right, 200).proportion_ci(0.95, "exact") for right in (180, 120))
    assert found["ci95"] == pytest.approx(
        [0.3 - math.hypot(0.9 - ours.low, theirs.high - 0.6), 0.3 + math.hypot(ours.high - 0.9, 0.6 - theirs.low)]
    )


def test_a_small_group_may_be_the_worst_though_it_was_not() -> None:
    """3 of 3 right leave open that the method is right in 29 % there; so does a large group that is the worst."""
    large, small = scores((90, 100), (90, 100)), scores((90, 100), (3, 3))
    assert by_images(small, "worst_group_accuracy").below == pytest.approx(0.9 - exact(3, 3).low)
    assert by_images(large, "worst_group_accuracy").below == pytest.approx(0.9 - exact(90, 100).low)
    # The bound from above is the lowest, each of its own chance: none of G groups may be missed.
    assert by_images(large, "worst_group_accuracy").above == pytest.approx(exact(90, 100, 0.0125).high - 0.9)
    # Empty groups count nowhere.
    assert by_images(scores((90, 100), (0, 0)), "worst_group_accuracy") == by_images(scores((90, 100)), "accuracy")


def test_the_truth_lies_inside_as_often_as_promised() -> None:
    """Four groups of 40 images, seeds that differ a little, methods whose worst groups are others."""
    rng, inside, trials = np.random.default_rng(0), 0, 100
    true_ours, true_theirs = np.array([0.9, 0.8, 0.9, 0.95]), np.array([0.95, 0.9, 0.6, 0.65])
    truth = true_ours.min() - true_theirs.min()
    for _ in range(trials):
        # The same images for all seeds: which are right moves a little from seed to seed.
        luck = rng.random((2, 4, 40))
        made = [
            method(*(
                scores(*((int(((u + rng.normal(0, 0.02, 40)) < p).sum()), 40) for u, p in zip(draws, true, strict=True)))
                for _ in range(3)
            ))
            for draws, true in zip(luck, (true_ours, true_theirs), strict=True)
        ]  # fmt: skip
        low, high = compared(made[:1], made[1:])["ci95"]
        inside += low <= truth <= high
    assert inside >= 0.95 * trials


def test_repetitions_are_paired_by_their_means_and_have_the_mean_of_what_their_images_leave_open() -> None:
    ours, theirs = [alike(0.9, 0.8), alike(0.8, 0.8)], [alike(0.7, 0.6), alike(0.7, 0.66)]
    found = compared(ours, theirs)
    known = stats.ttest_rel([0.85, 0.8], [0.65, 0.68]).confidence_interval(0.95)
    assert found["ci95_repeats"] == pytest.approx([known.low, known.high])
    assert found["ci95"][0] < known.low and found["ci95"][1] > known.high
    with pytest.raises(ValueError, match="zip"):
        compared(ours, theirs[:1])


def test_one_seed_decides_nothing() -> None:
    found = compared([alike(0.9)], [alike(0.1)])
    assert found["mean"] == pytest.approx(0.8) and found["ci95"] is found["ci95_repeats"] is None
    assert found["verdict"] == "inconclusive" and "no interval" in found["why"]
    assert compared([alike(0.9, 0.9)], [alike(0.1)])["ci95"] is None, "another number of seeds is no pair"


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (3, 7), (120, 200), (437, 437)])
def test_the_bounds_are_scipys_exact_ones(right: int, n: int) -> None:
    known = stats.binomtest(right, n).proportion_ci(0.95, "exact")
    assert exact(right, n) == pytest.approx((known.low, known.high))


def test_no_images_have_no_bounds() -> None:
    with pytest.raises(ValueError, match="at least one"):
        exact(0, 0)


def test_the_group_that_leaves_most_open_is_named() -> None:
    """Not the worst one of many images, but the right one of three: its truth may lie far below."""
    ours, theirs = method(*[scores((900, 1000), (3, 3))] * 3), method(*[scores((800, 1000), (3, 3))] * 3)
    found = compared([ours], [theirs])
    assert found["verdict"] == "inconclusive" and found["why"].endswith(f"{GROUPS[1]} has 3")
    few, fewer = method(*[scores((30, 40))] * 2), method(*[scores((29, 40))] * 2)
    assert compared([few], [fewer], "accuracy")["why"].endswith("too few to show it: there are 40")

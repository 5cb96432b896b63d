"""Few validation images leave the order of preference as it is; many decide."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.stages.tune.evidence import SURE, Judged, preferred


def judged(n: int, *rates: tuple[float, float]) -> Judged:
    """Trials that are right in these shares of two groups of n images, the errors at places of their own."""
    rng = np.random.default_rng(0)
    right = [np.concatenate([rng.permutation(np.arange(n) < round(rate * n)) for rate in one]) for one in rates]
    groups = np.repeat([0, 1], n)
    return Judged(np.array(right), groups, groups)


def test_figures_are_the_rules() -> None:
    one = judged(10, (0.5, 0.9), (0.8, 0.7))
    assert one.figures("worst-group") == pytest.approx([0.5, 0.7])
    assert one.figures("accuracy") == pytest.approx([0.7, 0.75])


@pytest.mark.parametrize(("n", "chosen"), [(10, 0), (400, 1)])
def test_a_small_lead_counts_only_with_many_images(n: int, chosen: int) -> None:
    assert preferred(judged(n, (0.9, 0.7), (0.9, 0.8)), "worst-group") == chosen


def test_a_large_lead_counts_with_few_images_too() -> None:
    assert preferred(judged(10, (1.0, 0.1), (1.0, 0.8)), "worst-group") == 1


def test_equals_stay_in_their_order() -> None:
    same = judged(50, (0.8, 0.8))
    assert preferred(Judged(np.repeat(same.right_TN, 3, 0), same.labels_N, same.groups_N), "worst-group") == 0


def test_the_rule_decides() -> None:
    one = judged(400, (0.95, 0.6), (0.7, 0.7))
    assert preferred(one, "worst-group") == 1 and preferred(one, "accuracy") == 0


def test_a_third_one_is_compared_with_the_one_chosen_so_far() -> None:
    assert preferred(judged(200, (0.9, 0.2), (0.9, 0.5), (0.9, 0.85)), "worst-group") == 2
    assert preferred(judged(200, (0.9, 0.2), (0.9, 0.85), (0.9, 0.5)), "worst-group") == 1


def test_the_share_of_resamplings_is_that_of_independent_binomials() -> None:
    """Beside scipy's distributions: one group, errors at independent places."""
    from scipy.stats import binom

    n, a, b = 40, 0.6, 0.75
    rng, shares = np.random.default_rng(1), []
    for _ in range(20):
        right: NDArray[np.bool_] = np.array([rng.permutation(np.arange(n) < rate * n) for rate in (a, b)])
        one = Judged(right, np.zeros(n, np.int64), np.zeros(n, np.int64))
        drawn = one.resampled("worst-group")
        shares.append((drawn[:, 1] > drawn[:, 0]).mean() + (drawn[:, 1] == drawn[:, 0]).mean() / 2)
    grid = np.arange(n + 1)
    first, second = binom.pmf(grid, n, a), binom.pmf(grid, n, b)
    expected = sum(first[i] * (second[i + 1 :].sum() + second[i] / 2) for i in grid)
    assert np.mean(shares) == pytest.approx(expected, abs=0.02) and 0.5 < expected < 1 and 0.5 < SURE < 1

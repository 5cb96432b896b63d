"""Few validation images leave the order of preference as it is; many decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fairsynth.stages.tune.evidence import Judged, preferred


def of(right_TN: np.ndarray, groups_N: np.ndarray, learnt: Sequence[int] = ()) -> Judged:
    """Predictions of labels that are the groups; training has those of validation, and these more."""
    known = np.union1d(groups_N, np.array(learnt, np.int64))
    return Judged(right_TN, groups_N, groups_N, known, known)


def judged(n: int, *rates: tuple[float, float]) -> Judged:
    """Trials that are right in these shares of two groups of n images, the errors at places of their own."""
    rng = np.random.default_rng(0)
    right = [np.concatenate([rng.permutation(np.arange(n) < round(rate * n)) for rate in one]) for one in rates]
    groups = np.repeat([0, 1], n)
    return of(np.array(right), groups)


@pytest.mark.parametrize(("n", "chosen"), [(10, 0), (400, 1)])
def test_a_small_lead_counts_only_with_many_images(n: int, chosen: int) -> None:
    assert preferred(judged(n, (0.9, 0.7), (0.9, 0.8)), "worst-group") == chosen


def test_a_large_lead_counts_with_few_images_too() -> None:
    assert preferred(judged(10, (1.0, 0.1), (1.0, 0.8)), "worst-group") == 1


def test_equals_stay_in_their_order() -> None:
    same = judged(50, (0.8, 0.8))
    assert preferred(of(np.repeat(same.right_TN, 3, 0), same.groups_N), "worst-group") == 0


def test_the_rule_decides() -> None:
    one = judged(400, (0.95, 0.6), (0.7, 0.7))
    assert preferred(one, "worst-group") == 1 and preferred(one, "accuracy") == 0


def test_a_third_one_is_compared_with_the_one_chosen_so_far() -> None:
    assert preferred(judged(200, (0.9, 0.2), (0.9, 0.5), (0.9, 0.85)), "worst-group") == 2
    assert preferred(judged(200, (0.9, 0.2), (0.9, 0.85), (0.9, 0.5)), "worst-group") == 1


@pytest.mark.parametrize(("n", "chosen"), [(1, 0), (2, 0), (4, 1)])
def test_one_or_two_images_decide_nothing(n: int, chosen: int) -> None:
    assert preferred(judged(n, (1.0, 0.0), (1.0, 1.0)), "worst-group") == chosen


def test_the_share_of_resamplings_is_that_of_a_multinomial() -> None:
    """One group of five images: all resamplings, beside the two images that are added, counted out."""
    right = np.array([[True, True, False, True, False], [True, False, False, True, True]])
    one = of(right, np.zeros(5, np.int64))
    differences = np.concatenate([right[0].astype(int) - right[1], [1, -1]])
    totals = {0: 1.0}
    for _ in range(len(differences)):
        drawn: dict[int, float] = {}
        for total, chance in totals.items():
            for difference in differences:
                drawn[total + difference] = drawn.get(total + difference, 0) + chance / len(differences)
        totals = drawn
    expected = sum(chance * (total > 0) + chance * (total == 0) / 2 for total, chance in totals.items())
    assert one.lead("worst-group", 0, 1) == pytest.approx(expected, abs=0.03)
    assert one.lead("worst-group", 0, 1) + one.lead("worst-group", 1, 0) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("last", "chosen"), [(0, 0), (10, 1), (60, 1)])
def test_a_group_without_validation_images_is_too_small_for_any_lead(last: int, chosen: int) -> None:
    """Counts (60, 60, 60, last); the newcomer is right everywhere, the incumbent in a third of each group."""
    groups = np.repeat([0, 1, 2, 3], [60, 60, 60, last])
    right = np.array([np.arange(len(groups)) % 3 == 0, np.ones(len(groups), bool)])
    for rule in ("worst-group", "worst-class"):
        assert preferred(of(right, groups, (0, 1, 2, 3)), rule) == chosen  # type: ignore[arg-type]
    # The mean accuracy asks for no group; a group that no training image has is none that could be learnt.
    assert preferred(of(right, groups, (0, 1, 2, 3)), "accuracy") == 1
    assert preferred(of(right[:, :180], groups[:180]), "worst-group") == 1

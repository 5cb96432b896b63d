"""How far a probe's word counts: measured on images that it has not seen, and the more cautious the fewer there are."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.groups import Group
from fairsynth.models import calibration
from fairsynth.models.calibration import FOLDS, cross_fit, recognised, temperature
from fairsynth.models.probe import Probe, Recognised, fit_probe
from tests.models.test_probe import ATTRIBUTES, EVEN, GROUPS, same, world

HOT = {group: 300 if group in GROUPS[::3] else 30 for group in GROUPS}


def surprise(probe: Probe, counts: dict[Group, int], noise: float) -> float:
    """Mean surprise at the own labels of new images, in nats."""
    points, groups, _ = world(counts, seed=99, noise=noise)
    return float(-np.log(probe.agreement(points, groups)[0]).mean())


def test_what_is_recognised_was_not_learnt() -> None:
    # Without any signal a probe learns its few images by heart; of unseen ones it recognises every fourth.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 400))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    groups, ids = [GROUPS[i % 4] for i in range(200)], [str(i) for i in range(200)]
    found = cross_fit(points, groups, ids)
    by_heart = calibration.is_right(fit_probe(points, groups, ids), points, groups).mean()
    assert by_heart > 0.95
    assert {group: counts.judged for group, counts in found.recognised.items()} == dict.fromkeys(GROUPS, 50)
    assert 0.1 < sum(counts.right for counts in found.recognised.values()) / 200 < 0.4
    # And it says so: it is sure of nothing.
    assert found.probe.label_temperature > 3
    assert np.abs(found.probe.labels_of(points[:0:-1]) - 0.5).max() < 0.45


def test_what_can_be_told_is_recognised() -> None:
    found = cross_fit(*world(EVEN, label=3.0, noise=0.1))
    assert found.recognised == dict.fromkeys(GROUPS, Recognised(60, 60))
    rare = cross_fit(*world(dict(zip(GROUPS, (60, 1, 3, 60), strict=True)), label=3.0, noise=0.1))
    assert [rare.recognised[group].judged for group in GROUPS] == [60, 1, 3, 60]


def test_calibration_changes_how_sure_a_probe_is_and_nothing_else() -> None:
    points, groups, ids = world(HOT, noise=1.0)
    plain, found = fit_probe(points, groups, ids), cross_fit(points, groups, ids).probe
    assert same(plain, found) and found.label_temperature != 1
    new, _, _ = world(EVEN, seed=5, noise=1.0)
    assert found.groups_of(new) == plain.groups_of(new)
    scores = np.log(plain.labels_of(new))
    expected = np.exp(scores / found.label_temperature)
    assert found.labels_of(new) == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-4)
    scores = np.log(plain.attributes_of(new))
    expected = np.exp(scores / found.attribute_temperature)
    assert found.attributes_of(new) == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-4)


def test_a_calibrated_probe_is_less_surprised_by_what_it_has_not_seen() -> None:
    few = dict.fromkeys(GROUPS, 12)
    points, groups, ids = world(few, noise=1.5)
    plain, found = fit_probe(points, groups, ids), cross_fit(points, groups, ids).probe
    assert found.label_temperature > 1
    more = dict.fromkeys(GROUPS, 500)
    assert surprise(found, more, 1.5) < surprise(plain, more, 1.5)


def test_the_fewer_images_a_group_has_the_less_sure_the_probe_is() -> None:
    # All are told apart with ease, so that nothing but their number makes the difference.
    warmth = [
        cross_fit(*world({g: 200 if g in GROUPS[::3] else n for g in GROUPS}, label=3.0, noise=0.05)).probe
        for n in (2, 10, 200)
    ]
    labels = [probe.label_temperature for probe in warmth]
    assert labels[0] > labels[1] > labels[2]


def test_the_best_temperature_by_hand() -> None:
    # Two classes whose scores are 2 apart, and one group of 2 images, both right: sure to (2 + 1) / (2 + 2).
    # 1 / (1 + exp(-2 / T)) = 3 / 4 where 2 / T = log 3.
    scores, group = np.array([[2.0, 0.0], [0.0, 2.0]]), [GROUPS[0]] * 2
    assert temperature(scores, np.array([0, 1]), group) == pytest.approx(2 / math.log(3), rel=1e-3)
    # Of 8 images 7 right, one wrong: (7 * 9 + 1) / 80 of the weight is on the likelier class.
    scores = np.array([[2.0, 0.0]] * 8)
    share = (7 * 9 / 10 + 1 / 10) / 8
    expected = 2 / math.log(share / (1 - share))
    assert temperature(scores, np.array([0] * 7 + [1]), [GROUPS[0]] * 8) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("n", [4, 100, 10_000])
def test_groups_count_the_same_however_large(n: int) -> None:
    # A group of n images, all right, beside one of 4, half of them right: each has half of the weight.
    own = np.array([0] * n + [0, 0, 1, 1])
    share = ((n + 1) / (n + 2) + 0.5) / 2
    found = temperature(np.array([[2.0, 0.0]] * (n + 4)), own, [GROUPS[0]] * n + [GROUPS[1]] * 4)
    assert found == pytest.approx(2 / math.log(share / (1 - share)), rel=1e-3)


def test_what_no_probe_knew_teaches_no_temperature() -> None:
    scores = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, -np.inf], [2.0, 0.0]])
    own, groups = np.array([0, 1, 0, -1]), [GROUPS[0]] * 4
    assert temperature(scores, own, groups) == temperature(scores[:2], own[:2], groups[:2])
    assert temperature(scores[2:], own[2:], groups[2:]) == 1.0
    assert temperature(np.zeros((0, 2)), np.zeros(0, np.int64), []) == 1.0


def test_an_image_whose_label_no_other_fold_has_is_not_recognised() -> None:
    points, groups, ids = world({Group("x", "a"): 20, Group("y", "a"): 20, Group("z", "b"): 1}, label=3.0, noise=0.1)
    found = cross_fit(points, groups, ids)
    assert found.recognised[Group("z", "b")] == Recognised(0, 1)
    assert found.recognised[Group("x", "a")] == Recognised(20, 20)
    assert math.isfinite(found.probe.label_temperature) and found.probe.labels == ("x", "y", "z")


def test_a_single_image_or_a_single_group_is_no_problem() -> None:
    one = cross_fit(*world({GROUPS[0]: 1}))
    assert one.probe.label_temperature == 1.0 and one.recognised == {GROUPS[0]: Recognised(0, 1)}
    group = cross_fit(*world({GROUPS[0]: 20}))
    assert group.probe.label_temperature == 1.0 and group.recognised == {GROUPS[0]: Recognised(20, 20)}
    with pytest.raises(ValueError, match="a probe needs images"):
        cross_fit(np.zeros((0, 24), np.float32), [], [])


def test_the_order_of_the_images_changes_no_bit() -> None:
    points, groups, ids = world(dict(zip(GROUPS, (50, 10, 20, 3), strict=True)), noise=1.0)
    first = cross_fit(points, groups, ids)
    for seed in range(2):
        order = random.Random(seed).sample(range(len(ids)), len(ids))
        again = cross_fit(points[order], [groups[i] for i in order], [ids[i] for i in order])
        assert same(first.probe, again.probe) and first.recognised == again.recognised
        assert first.probe.label_temperature == again.probe.label_temperature
        assert first.probe.attribute_temperature == again.probe.attribute_temperature


def test_every_group_is_dealt_out_evenly_and_every_image_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    points, groups, ids = world(dict(zip(GROUPS, (50, 12, 20, 3), strict=True)))
    fitted: list[list[str]] = []

    def watched(points_ND: NDArray[np.float32], groups_N: list[Group], ids_N: list[str]) -> Probe:
        fitted.append(list(ids_N))
        return fit_probe(points_ND, groups_N, ids_N)

    monkeypatch.setattr(calibration, "fit_probe", watched)
    cross_fit(points, groups, ids)
    whole, *folds = fitted
    assert len(whole) == 85 and len(folds) == FOLDS
    left_out = Counter(i for fold in folds for i in set(ids) - set(fold))
    assert left_out == dict.fromkeys(ids, 1)
    of = dict(zip(ids, groups, strict=True))
    for fold in folds:
        sizes = Counter(of[i] for i in set(ids) - set(fold))
        assert sizes[GROUPS[0]] == 10 and sizes[GROUPS[1]] in (2, 3) and sizes[GROUPS[3]] in (0, 1)


def test_further_images_are_added_to_the_counts() -> None:
    found = cross_fit(*world(EVEN, label=3.0, noise=0.1))
    points, groups, _ = world({GROUPS[0]: 5, Group("high", "sea"): 2}, seed=1, label=3.0, noise=0.1)
    more = found.judged_on(points, groups)
    assert more.recognised[GROUPS[0]] == Recognised(65, 65) and more.recognised[GROUPS[1]] == Recognised(60, 60)
    assert more.recognised[Group("high", "sea")] == Recognised(0, 2)
    assert found.judged_on(points[:0], []).recognised == found.recognised
    assert more.probe.attributes == ATTRIBUTES


def test_counts_are_by_group() -> None:
    groups = [GROUPS[1], GROUPS[0], GROUPS[1]]
    assert recognised(np.array([True, False, False]), groups) == {
        GROUPS[0]: Recognised(0, 1),
        GROUPS[1]: Recognised(1, 2),
    }


def test_which_groups_are_taken_for_which_is_counted_on_images_not_learnt_from() -> None:
    # Labels cannot be told apart, attributes can.
    found = cross_fit(*world(EVEN, label=0.0, noise=0.1))
    for group in GROUPS:
        taken = {other: n for (of, other), n in found.taken.items() if of == group}
        assert sum(taken.values()) == found.recognised[group].judged - found.recognised[group].right
        assert {other.attribute for other in taken} <= {group.attribute}
        (twin,) = (other for other in GROUPS if other.attribute == group.attribute and other != group)
        assert found.mistaken(group) == (found.taken[twin, group] + 1) / (found.recognised[twin].judged + 2)
    well = cross_fit(*world(EVEN, label=3.0, noise=0.1))
    assert not well.taken and well.mistaken(GROUPS[0]) == pytest.approx(1 / 62)


def test_groups_of_few_images_do_not_say_how_often_a_probe_errs() -> None:
    sizes = {GROUPS[0]: 60, GROUPS[1]: 9, GROUPS[2]: 9, GROUPS[3]: 9}
    found = cross_fit(*world(sizes, label=0.0, noise=0.1))
    assert found.mistaken(GROUPS[0]) is None and found.mistaken(GROUPS[1]) is not None


def test_mistakes_in_further_images_are_added() -> None:
    found = cross_fit(*world(EVEN, label=0.0, noise=0.1))
    points, groups, _ = world(EVEN, seed=1, label=0.0, noise=0.1)
    more = found.judged_on(points, groups)
    assert more.taken.total() > found.taken.total()
    assert all(more.taken[key] >= n for key, n in found.taken.items())

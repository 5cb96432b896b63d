"""The probe in planted worlds, where it is known what an image shows and what only goes along with it."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fairsynth.groups import Group
from fairsynth.models import probe as stage
from fairsynth.models.probe import MOST_PER_GROUP, STRENGTH, Probe, fit_probe, halves

LABELS, ATTRIBUTES = ("high", "low"), ("building", "flower")
GROUPS = [Group(label, attribute) for label in LABELS for attribute in ATTRIBUTES]


def world(
    counts: dict[Group, int], seed: int = 0, label: float = 1.0, attribute: float = 3.0, noise: float = 0.4
) -> tuple[NDArray[np.float32], list[Group], list[str]]:
    """Unit vectors with a direction for each label and each attribute, and noise; groups; ids."""
    rng, dimensions = np.random.default_rng(seed), 24
    groups = [group for group, n in counts.items() for _ in range(n)]
    labels, attributes = (sorted({group[part] for group in counts}) for part in (0, 1))
    points = rng.normal(0, noise, (len(groups), dimensions))
    for i, group in enumerate(groups):
        points[i, labels.index(group.label)] += label
        points[i, 10 + attributes.index(group.attribute)] += attribute
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), groups, [f"{seed}-{i}" for i in range(len(groups))]


ALIGNED, CONFLICTING = (GROUPS[0], GROUPS[3]), (GROUPS[1], GROUPS[2])
BIASED = {group: 1485 if group in ALIGNED else 15 for group in GROUPS}  # 99 % of a label with its attribute
EVEN = dict.fromkeys(GROUPS, 60)


def right(probe: Probe, counts: dict[Group, int], part: int) -> float:
    """Share of new images whose label (part 0) or attribute (part 1) gets more than half."""
    points, groups, _ = world(counts, seed=99)
    return float((probe.agreement(points, groups)[part] > 0.5).mean())


def test_a_probe_of_the_label_is_not_fooled_by_an_attribute_that_goes_along() -> None:
    points, groups, ids = world(BIASED)
    conflict = dict.fromkeys(CONFLICTING, 500)
    # What happens without equal weights: the louder attribute stands in for the label.
    plain = LogisticRegression(C=STRENGTH, max_iter=5000).fit(points, [group.label for group in groups])
    new, of, _ = world(conflict, seed=99)
    fooled = float(np.mean(plain.predict(new) == np.array([group.label for group in of])))
    probe = fit_probe(points, groups, ids)
    assert fooled < 0.8 < right(probe, conflict, 0)
    assert right(probe, conflict, 0) > right(probe, dict.fromkeys(ALIGNED, 500), 0) - 0.15
    assert right(probe, conflict, 1) > 0.99


def test_probabilities_are_those_of_a_logistic_regression_with_equal_groups() -> None:
    counts = dict(zip(GROUPS, (50, 10, 20, 40), strict=True))
    points, groups, ids = world(counts)
    probe = fit_probe(points, groups, ids)
    new, _, _ = world(EVEN, seed=1)
    for names, part, found in ((LABELS, 0, probe.labels_of(new)), (ATTRIBUTES, 1, probe.attributes_of(new))):
        weights = [120 / 4 / counts[group] for group in groups]
        model = LogisticRegression(C=STRENGTH, max_iter=5000, tol=1e-8)
        model.fit(points, [group[part] for group in groups], sample_weight=weights)
        assert tuple(model.classes_) == names
        assert found == pytest.approx(model.predict_proba(new), abs=0.01)  # the probe stops a little earlier


def test_agreement_is_the_probability_of_the_own_label_and_the_own_attribute() -> None:
    probe = fit_probe(*world(EVEN))
    points, groups, _ = world(EVEN, seed=1)
    label, attribute = probe.agreement(points, groups)
    # Of two, the probability itself: it and the other one's are 1 together.
    for i in range(0, len(groups), 7):
        own = probe.labels_of(points)[i, LABELS.index(groups[i].label)]
        assert label[i] == pytest.approx(own, abs=1e-6)
        own = probe.attributes_of(points)[i, ATTRIBUTES.index(groups[i].attribute)]
        assert attribute[i] == pytest.approx(own, abs=1e-6)
    assert label.dtype == attribute.dtype == np.float32 and label.mean() > 0.75 and attribute.mean() > 0.95
    assert probe.labels_of(points).sum(1) == pytest.approx(np.ones(len(points)))
    # Asked about the other label, each image answers with what is left.
    other = [Group("high" if group.label == "low" else "low", group.attribute) for group in groups]
    assert probe.agreement(points, other)[0] == pytest.approx(1 - label, abs=1e-6)


def test_agreement_among_three_is_the_own_probability_against_the_best_other_one_by_hand() -> None:
    # Weights are logarithms of the shares 4 : 3 : 3, and the attributes' of 1 : 3, whatever the image.
    def weights(*shares: float) -> NDArray[np.float32]:
        return np.array([[0, 0, np.log(share)] for share in shares], np.float32)

    probe = Probe(("x", "y", "z"), ("a", "b"), weights(4, 3, 3), weights(1, 3))
    points = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)
    assert probe.labels_of(points)[0] == pytest.approx([0.4, 0.3, 0.3], abs=1e-6)
    groups = [Group("x", "a"), Group("y", "b"), Group("z", "a"), Group("w", "b")]
    label, attribute = probe.agreement(points, groups)
    # x is the likeliest, though below one half of all.
    assert label == pytest.approx([4 / 7, 3 / 7, 3 / 7, 0], abs=1e-6)
    assert attribute == pytest.approx([1 / 4, 3 / 4, 1 / 4, 3 / 4], abs=1e-6)


def test_of_three_labels_the_likeliest_is_the_one_that_agrees() -> None:
    counts = {Group(name, attribute): 40 for name in "xyz" for attribute in ATTRIBUTES}
    probe = fit_probe(*world(counts, noise=1.0))
    points, groups, _ = world(counts, seed=1, noise=1.0)
    shares = probe.labels_of(points)
    likeliest = shares.argmax(1)
    assert ((shares.max(1) < 0.5) & (shares.max(1) > 0.34)).sum() > 10, "too easy: one label always has more than half"
    for place, name in enumerate("xyz"):
        label, _ = probe.agreement(points, [Group(name, group.attribute) for group in groups])
        assert ((label >= 0.5) == (likeliest == place)).all()
        others = np.delete(shares, place, 1).max(1)
        assert label == pytest.approx(shares[:, place] / (shares[:, place] + others), abs=1e-6)


def test_the_likeliest_group_is_named() -> None:
    probe = fit_probe(*world(EVEN, label=3.0, noise=0.1))
    points, groups, _ = world(EVEN, seed=1, label=3.0, noise=0.1)
    assert probe.groups_of(points) == groups


def test_labels_and_attributes_that_were_never_seen_get_nothing() -> None:
    probe = fit_probe(*world(EVEN))
    points, _, _ = world({GROUPS[0]: 3}, seed=1)
    label, attribute = probe.agreement(points, [Group("middle", "flower"), Group("high", "sea"), Group("", "")])
    assert label[[0, 2]].tolist() == [0, 0] and label[1] > 0
    assert attribute[[1, 2]].tolist() == [0, 0] and attribute[0] > 0


def test_no_images_agree_with_nothing() -> None:
    probe = fit_probe(*world(EVEN))
    label, attribute = probe.agreement(np.zeros((0, 24), np.float32), [])
    assert label.shape == attribute.shape == (0,) and probe.groups_of(np.zeros((0, 24), np.float32)) == []


def test_a_probe_needs_images() -> None:
    with pytest.raises(ValueError, match="a probe needs images"):
        fit_probe(np.zeros((0, 24), np.float32), [], [])


@pytest.mark.parametrize("names", [("c", "a", "b"), ("9", "10", "100"), ("日", "a\0", "a", "A", "{label}", "a b")])
def test_more_than_two_labels_are_told_apart_whatever_their_names(names: tuple[str, ...]) -> None:
    counts = {Group(name, attribute): 30 for name in names for attribute in ATTRIBUTES}
    probe = fit_probe(*world(counts, label=2.0))
    assert probe.labels == tuple(sorted(names)) and probe.attributes == ATTRIBUTES
    points, groups, _ = world(counts, seed=1, label=2.0)
    label, attribute = probe.agreement(points, groups)
    assert (label > 0.5).mean() > 0.95 and (attribute > 0.5).mean() > 0.95
    assert probe.labels_of(points).shape == (len(groups), len(names))
    assert probe.labels_of(points).sum(1) == pytest.approx(np.ones(len(groups)), abs=1e-5)


def test_two_names_that_differ_in_a_zero_byte_are_two() -> None:
    counts = {Group(name, attribute): 30 for name in ("a", "a\0") for attribute in ATTRIBUTES}
    probe = fit_probe(*world(counts, label=3.0))
    points, groups, _ = world(counts, seed=1, label=3.0)
    assert (probe.agreement(points, groups)[0] > 0.5).mean() > 0.95


def test_a_single_label_is_certain() -> None:
    probe = fit_probe(*world({Group("x", "a"): 20, Group("x", "b"): 20}))
    points, groups, _ = world({Group("x", "a"): 5, Group("x", "b"): 5}, seed=1)
    label, attribute = probe.agreement(points, groups)
    assert label.tolist() == [1.0] * 10 and (attribute > 0.5).mean() == 1
    assert probe.agreement(points, [Group("y", "a")] * 10)[0].tolist() == [0.0] * 10


def same(one: Probe, other: Probe) -> bool:
    """Whether two probes are equal to the bit."""
    return one.labels == other.labels and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("label_weights_CD", "attribute_weights_CD")
    )


def test_the_order_of_the_images_changes_no_bit() -> None:
    points, groups, ids = world(dict(zip(GROUPS, (50, 10, 20, 40), strict=True)))
    first = fit_probe(points, groups, ids)
    for seed in range(3):
        order = random.Random(seed).sample(range(len(ids)), len(ids))
        assert same(first, fit_probe(points[order], [groups[i] for i in order], [ids[i] for i in order]))
    assert not same(first, fit_probe(points[:-1], groups[:-1], ids[:-1]))


def test_of_a_large_group_a_fixed_part_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MOST_PER_GROUP", 12)
    assert MOST_PER_GROUP == 2000
    counts = dict(zip(GROUPS, (50, 9, 12, 13), strict=True))
    points, groups, ids = world(counts)
    fitted: list[tuple[NDArray[np.float32], NDArray[np.float64]]] = []

    class Watched(LogisticRegression):
        def fit(self, points: NDArray[np.float32], classes: object, sample_weight: NDArray[np.float64]) -> Watched:
            fitted.append((points, sample_weight))
            return super().fit(points, classes, sample_weight)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Watched)
    fit_probe(points, groups, ids)
    used, weights = fitted[0]
    place = {point.tobytes(): group for point, group in zip(points, groups, strict=True)}
    of = [place[point.tobytes()] for point in used]
    assert Counter(of) == dict(zip(GROUPS, (12, 9, 12, 12), strict=True))
    # Every group weighs the same, and all together as much as there are images.
    for group in GROUPS:
        assert sum(w for w, g in zip(weights, of, strict=True) if g == group) == pytest.approx(45 / 4)
    # Another order, and the same ones are used.
    fit_probe(points[::-1], groups[::-1], ids[::-1])
    assert np.array_equal(fitted[2][0], used)


def test_a_probe_travels_to_other_processes() -> None:
    probe = fit_probe(*world(EVEN))
    assert same(pickle.loads(pickle.dumps(probe)), probe)


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_halves_split_every_group_in_two_whatever_the_order(counts: list[int], rng: random.Random) -> None:
    groups = [group for group, n in zip(GROUPS, counts, strict=True) for _ in range(n)]
    ids = [f"image {i}" for i in range(len(groups))]
    found = halves(ids, groups)
    assert sorted(found.probe + found.held_out) == list(range(len(ids)))
    assert found.probe == sorted(found.probe) and found.held_out == sorted(found.held_out)
    for part, more in ((found.probe, 1), (found.held_out, 0)):
        expected = {group: (n + more) // 2 for group, n in zip(GROUPS, counts, strict=True) if (n + more) // 2}
        assert Counter(groups[i] for i in part) == expected
    order = rng.sample(range(len(ids)), len(ids))
    again = halves([ids[i] for i in order], [groups[i] for i in order])
    assert {order[i] for i in again.probe} == set(found.probe)


def test_halves_go_by_hash_and_not_by_name() -> None:
    ids = [f"{i:04d}" for i in range(400)]
    found = halves(ids, [GROUPS[0]] * 400)
    assert len(found.probe) == 200 and 70 < sum(i < 200 for i in found.probe) < 130
    assert 70 < sum(i % 2 for i in found.probe) < 130

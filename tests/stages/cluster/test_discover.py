"""Discovered attributes: planted clusters are found in each label, matched over labels, and compared with the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.errors import DataError
from fairsynth.metrics import agreement
from fairsynth.stages.cluster.discover import discover
from fairsynth.stages.cluster.output import Discovered, pseudo_attribute

DIMENSIONS = 32
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Rows scaled to length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def looks(n: int, seed: int = 0) -> Vectors:
    """Directions of looks, far apart."""
    return unit(np.linalg.qr(np.random.default_rng(seed).normal(size=(DIMENSIONS, n)))[0].T)


def planted(
    sizes: Sequence[tuple[str, Sequence[int]]], spread: float = 0.05, seed: int = 0
) -> tuple[list[str], Vectors, list[str]]:
    """Labels, vectors and the look of each image, mixed: ``sizes`` has the images of each look, per label.

    A label shifts all its vectors alike, as what is on the images does.
    """
    rng, directions = np.random.default_rng(seed), looks(8)
    labels, truth, points = [], [], []
    for number, (label, of_look) in enumerate(sizes):
        for look, n in enumerate(of_look):
            labels += [label] * n
            truth += [f"look {look}"] * n
            points.append(directions[look] + 0.6 * directions[-1 - number] + spread * rng.normal(size=(n, DIMENSIONS)))
    order = rng.permutation(len(labels))
    return [labels[i] for i in order], unit(np.concatenate(points))[order], [truth[i] for i in order]


SIZES = [("cat", (40, 10)), ("dog", (8, 50)), ("emu", (20, 20))]


def same_partition(one: Sequence[str], two: Sequence[str]) -> bool:
    """Whether two namings are the same but for the names."""
    return len(set(zip(one, two, strict=True))) == len(set(one)) == len(set(two))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [2, 3])
def test_planted_clusters_are_found_and_matched_over_labels(k: int, seed: int) -> None:
    sizes = [(label, (*counts, 15)[:k]) for label, counts in SIZES]
    labels, points, truth = planted(sizes, seed=seed)
    pseudo = discover(labels, points, k, 5, seed).assign(labels, points)
    # Over all labels together: a number means the same look in each of them.
    assert same_partition(pseudo, truth) and set(pseudo) == {pseudo_attribute(i) for i in range(k)}
    for entry in agreement(labels, pseudo, truth):
        assert entry["adjusted_mutual_information"] == pytest.approx(1) and entry["purity"] == 1


def test_new_images_go_to_the_nearest_centre_of_their_label() -> None:
    labels, points, truth = planted(SIZES)
    found = discover(labels, points, 2, 5, 0)
    names = dict(zip(truth, found.assign(labels, points), strict=True))
    new_labels, new_points, new_truth = planted(SIZES, spread=0.1, seed=99)
    assert found.assign(new_labels, new_points) == [names[look] for look in new_truth]


def test_the_nearest_centre_by_hand() -> None:
    axes = np.eye(3, dtype=np.float32)
    found = Discovered({"x": axes[:2], "y": axes[[2, 0]]})
    points = unit(np.array([[3, 1, 0], [1, 3, 0], [1, 0, 3], [3, 0, 1]]))
    assert found.assign(["x", "x", "y", "y"], points) == ["kind-1", "kind-2", "kind-1", "kind-2"]
    assert found.assign([], np.zeros((0, 3), np.float32)) == []


def test_centres_are_unit_vectors_of_each_label() -> None:
    labels, points, _ = planted(SIZES)
    found = discover(labels, points, 2, 5, 0)
    assert sorted(found.centres) == ["cat", "dog", "emu"]
    for centres in found.centres.values():
        assert centres.shape == (2, DIMENSIONS) and centres.dtype == np.float32
        assert np.linalg.norm(centres, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_labels_do_not_disturb_each_other() -> None:
    # The clusters of a label are the same whatever the others are; only their numbers may differ.
    labels, points, _ = planted(SIZES, spread=0.2)
    pseudo = discover(labels, points, 2, 5, 0).assign(labels, points)
    alone = [i for i, label in enumerate(labels) if label == "dog"]
    by_itself = discover(["dog"] * len(alone), points[alone], 2, 5, 0).assign(["dog"] * len(alone), points[alone])
    assert same_partition(by_itself, [pseudo[i] for i in alone])


def test_the_same_input_gives_the_same_pseudo_attributes() -> None:
    labels, points, _ = planted(SIZES, spread=0.3)
    one, two = (discover(labels, points, 3, 5, 7) for _ in range(2))
    assert all(np.array_equal(one.centres[y], two.centres[y]) for y in one.centres)


@pytest.mark.parametrize(("n", "k"), [(1, 2), (4, 5)])
def test_too_few_images_are_refused(n: int, k: int) -> None:
    labels, points, _ = planted([("cat", (20, 20)), ("dog", (n, 0))])
    message = rf"^the {n} training images of label 'dog' do not fall into {k} kinds; lower --data\.discovered, or give"
    with pytest.raises(DataError, match=message):
        discover(labels, points, k, 5, 0)


def test_images_that_all_look_the_same_are_refused() -> None:
    points = np.tile(looks(1), (30, 1))
    with pytest.raises(DataError, match="the 30 training images of label 'cat\\?' do not fall into 2 kinds"):
        discover(["cat\x1b"] * 30, points, 2, 5, 0)


def test_one_pseudo_attribute_is_one() -> None:
    labels, points, _ = planted(SIZES)
    assert set(discover(labels, points, 1, 5, 0).assign(labels, points)) == {"kind-1"}


def test_agreement_of_the_same_partition_is_1_whatever_the_names() -> None:
    truth = ["a", "b", "c"] * 20
    (entry,) = agreement(["y"] * 60, [{"a": "kind-2", "b": "kind-3", "c": "kind-1"}[t] for t in truth], truth)
    assert entry["adjusted_mutual_information"] == pytest.approx(1) and entry["purity"] == 1 and entry["n"] == 60
    assert entry["kinds"] == {"kind-1": {"c": 20}, "kind-2": {"a": 20}, "kind-3": {"b": 20}}


def test_agreement_of_chance_is_about_0() -> None:
    rng = np.random.default_rng(0)
    pseudo, truth = ([str(v) for v in rng.integers(0, 3, 5000)] for _ in range(2))
    (entry,) = agreement(["y"] * 5000, pseudo, truth)
    assert abs(entry["adjusted_mutual_information"]) < 0.01 and entry["purity"] < 0.4
    # Small sets too: it is the adjustment that makes chance 0.
    small = [
        agreement(["y"] * 30, *([str(v) for v in rng.integers(0, 3, 30)] for _ in range(2)))[0] for _ in range(200)
    ]
    assert abs(np.mean([entry["adjusted_mutual_information"] for entry in small])) < 0.02


def test_agreement_is_per_label_and_purity_is_by_hand() -> None:
    labels = ["x"] * 10 + ["y"] * 4
    pseudo = ["k1"] * 6 + ["k2"] * 4 + ["k1", "k1", "k2", "k2"]
    truth = ["a"] * 4 + ["b"] * 2 + ["b"] * 3 + ["a"] + ["a", "a", "b", "b"]
    x, y = agreement(labels, pseudo, truth)
    assert (x["label"], x["n"], x["purity"]) == ("x", 10, 0.7)  # 4 of 6 and 3 of 4
    assert Counter(x["kinds"]["k1"]) == {"a": 4, "b": 2} and x["kinds"]["k2"] == {"b": 3, "a": 1}
    assert 0 < x["adjusted_mutual_information"] < 0.3
    assert (y["label"], y["n"], y["purity"], y["adjusted_mutual_information"]) == ("y", 4, 1, pytest.approx(1))

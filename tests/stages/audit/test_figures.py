"""The audit's figures on made-up worlds whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import binom

from fairsynth.groups import Group
from fairsynth.stages.audit import figures as stage
from fairsynth.stages.audit.figures import Images
from tests.support.figures import WIDTH, A, B, C, Vectors, drawn, images, units

NONE = images(drawn(1, 0)[:0], [])
NO_OTHERS = dict.fromkeys((A, B, C), drawn(1, 0)[:0])


def test_images_of_a_group_are_found_by_their_places() -> None:
    found = images(drawn(4, 0), [A, B, A, C])
    assert found.of(A).tolist() == [0, 2] and found.of(C).tolist() == [3]
    none = found.of(Group("x", "y"))
    assert none.tolist() == [] and found.embeddings_ND[none].shape == (0, WIDTH)


def test_agreement_and_confusion_by_hand() -> None:
    other = Images(
        drawn(6, 0),
        [A, A, A, A, B, B],
        # Of A: right, wrong label, wrong attribute, both wrong.
        [A, B, C, Group("high", "flower"), B, A],
        [A, A, A, B, B, B],
    )
    places = other.of(A)
    assert stage.agreement(other, places) == {
        "probe": {"label": 0.5, "attribute": 0.5, "both": 0.25},
        "zero_shot": {"label": 0.75, "attribute": 1.0, "both": 0.75},
    }
    assert stage.seen_as(other, places) == {
        "probe": [
            {"label": "high", "attribute": "building", "n": 1},
            {"label": "high", "attribute": "flower", "n": 1},
            {"label": "low", "attribute": "building", "n": 1},
            {"label": "low", "attribute": "flower", "n": 1},
        ],
        "zero_shot": [
            {"label": "high", "attribute": "building", "n": 1},
            {"label": "low", "attribute": "building", "n": 3},
        ],
    }
    nothing = other.of(C)
    assert stage.agreement(other, nothing) is None
    assert stage.seen_as(other, nothing) == {"probe": [], "zero_shot": []}


def test_where_groups_share_a_prompt_nothing_is_said_of_zero_shot_clip() -> None:
    blind = Images(drawn(3, 0), [A, A, B], [A, B, B], None)
    assert stage.agreement(blind, blind.of(A)) == {
        "probe": {"label": 0.5, "attribute": 1.0, "both": 0.5},
        "zero_shot": None,
    }
    assert stage.seen_as(blind, blind.of(B)) == {"probe": [{"label": "high", "attribute": "building", "n": 1}]}
    rows = [{"adapter": None, "cluster": 0}] * 3
    assert [f["agreement"]["zero_shot"] for f in stage.cluster_figures(rows, blind, {}, blind, NO_OTHERS, 0)] == [
        None,
        None,
    ]


def test_what_was_made_what_was_accepted_and_what_is_real_are_looked_at_each_for_itself() -> None:
    made = images(drawn(5, 0), [A, A, A, A, B], [A, B, C, A, A])
    accepted = images(made.embeddings_ND[[0, 1]], [A, A], [A, B])
    real = Images(drawn(3, 1), [A, A, B], [C, C, A], None)
    found = stage.group_figures(A, made, accepted, real, drawn(0, 2), drawn(0, 3), A, drawn(0, 4), 0)
    assert {part: shown["probe"] for part, shown in found["agreement"].items()} == {
        "made": {"label": 0.75, "attribute": 0.75, "both": 0.5},
        "synthetic": {"label": 0.5, "attribute": 1.0, "both": 0.5},
        "held_out": {"label": 1.0, "attribute": 0.0, "both": 0.0},
    }
    assert found["agreement"]["made"]["zero_shot"]["both"] == 1 and found["agreement"]["held_out"]["zero_shot"] is None
    assert (found["synthetic"], found["held_out"]) == (2, 2), "those that were not accepted do not count"
    # A group of which everything was rejected still says what was made.
    none = stage.group_figures(B, made, accepted, real, drawn(50, 2), drawn(50, 3), B, drawn(50, 4), 0)
    assert none["agreement"]["made"]["probe"] == {"label": 0.0, "attribute": 1.0, "both": 0.0}
    assert (none["synthetic"], none["agreement"]["synthetic"], none["memorisation"]) == (0, None, None)


@pytest.mark.parametrize(("rows", "real", "size"), [(9, 50, 9), (50, 9, 50), (50, 50, 9), (0, 50, 0)])
def test_few_images_have_no_fidelity(rows: int, real: int, size: int) -> None:
    assert stage.fidelity(drawn(rows, 0), drawn(real, 1), size, 0) is None


def test_ten_images_have_a_fidelity_of_that_many() -> None:
    found = stage.fidelity(drawn(50, 0), drawn(10, 1), 10, 0)
    assert found is not None and found["n"] == 10 and found["detectability"] is not None
    assert found == stage.fidelity(drawn(50, 0), drawn(10, 1), 10, 0)
    assert found != stage.fidelity(drawn(50, 0), drawn(10, 1), 10, 1)


def test_distances_are_those_of_the_formulas() -> None:
    made, real = drawn(60, 0, shift=0.5), drawn(80, 1)
    found = stage.fidelity(made, real, 60, 0)
    assert found is not None
    x, y = made.astype(np.float64), real.astype(np.float64)
    covariances = np.cov(x.T), np.cov(y.T)
    between = np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert found["frechet_distance"] == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum() + between, rel=1e-4)

    def mean(a: NDArray[Any], b: NDArray[Any], without_self: bool) -> float:
        kernel = (a @ b.T / WIDTH + 1) ** 3
        return float(kernel[~np.eye(len(a), dtype=bool)].mean() if without_self else kernel.mean())

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert found["kernel_distance"] == pytest.approx(expected, rel=1e-6)
    assert found["kernel_distance"] > 0.01 and found["detectability"]["low"] > 0.6


def figures(
    made: Vectors, held_out: Vectors, known: Vectors, learnt: Vectors, group: Group = A, lender: Group = A
) -> dict[str, Any]:
    """All figures of a group whose images are all that there are, all of them accepted."""
    accepted = images(made, [group] * len(made))
    real = images(held_out, [group] * len(held_out))
    return stage.group_figures(group, accepted, accepted, real, known, learnt, lender, known, 0)


def test_a_perfect_generator_has_about_the_figures_of_real_images() -> None:
    perfect = figures(drawn(200, 0), drawn(200, 1), drawn(200, 2), drawn(50, 3))
    other = figures(drawn(200, 0, shift=1.0), drawn(200, 1), drawn(200, 2), drawn(50, 3))
    ours, reference = (perfect["fidelity"][part] for part in ("synthetic", "held_out"))
    far = other["fidelity"]["synthetic"]
    assert other["fidelity"]["held_out"] == reference and ours["n"] == reference["n"] == 200
    assert ours["frechet_distance"] == pytest.approx(reference["frechet_distance"], rel=0.25)
    assert far["frechet_distance"] > 3 * reference["frechet_distance"]
    assert abs(ours["kernel_distance"]) < 0.05 * far["kernel_distance"]
    for name in ("precision", "recall", "density", "coverage"):
        assert ours[name] == pytest.approx(reference[name], abs=0.12)
    # Precision is blind to it: in so many dimensions the balls of outliers reach far.
    for name in ("recall", "density", "coverage"):
        assert far[name] < reference[name] - 0.3
    assert ours["detectability"]["low"] < 0.5 < ours["detectability"]["high"]
    assert far["detectability"]["low"] > 0.8
    assert perfect["memorisation"]["closer_to_training"]["share"] == pytest.approx(0.5, abs=0.12)


def test_both_sides_are_compared_in_the_same_number() -> None:
    few_known = figures(drawn(200, 0), drawn(100, 1), drawn(30, 2), drawn(50, 3))
    few_made = figures(drawn(20, 0), drawn(100, 1), drawn(300, 2), drawn(50, 3))
    for found, n in ((few_known, 30), (few_made, 20)):
        assert found["fidelity"]["synthetic"]["n"] == found["fidelity"]["held_out"]["n"] == n
    assert (few_known["synthetic"], few_known["held_out"]) == (200, 100)
    none_known = figures(drawn(200, 0), drawn(100, 1), drawn(0, 2), drawn(50, 3))
    assert none_known["fidelity"] == {"synthetic": None, "held_out": None}
    assert none_known["memorisation"] is not None and none_known["memorisation"]["closer_real"] is None


@pytest.mark.parametrize(("made", "learnt", "held_out"), [(50, 0, 50), (50, 1, 50), (9, 50, 50), (50, 50, 9)])
def test_where_nothing_was_learnt_or_few_are_there_nothing_is_said_of_memorisation(
    made: int, learnt: int, held_out: int
) -> None:
    assert stage.memorisation(drawn(made, 0), drawn(learnt, 1), drawn(held_out, 2), drawn(50, 3), 0) is None
    assert figures(drawn(made, 0), drawn(held_out, 2), drawn(50, 3), drawn(learnt, 1))["memorisation"] is None


def test_what_was_learnt_by_heart_is_seen() -> None:
    learnt, held_out = drawn(40, 1), drawn(60, 2)
    by_heart = units(learnt.astype(float) + 1e-3 * np.random.default_rng(0).normal(size=learnt.shape))
    found = stage.memorisation(by_heart, learnt, held_out, drawn(80, 3), 0)
    assert found is not None and found["learnt"] == 40
    assert found["closer_to_training"]["share"] == 1 and found["closer_to_training"]["n"] == 40
    assert found["nearest_ratio"]["synthetic"] < 0.05 < 0.3 < found["nearest_ratio"]["held_out"]
    # Other real images have learnt nothing.
    assert found["closer_real"]["n"] == 80 and found["closer_real"]["share"] == pytest.approx(0.5, abs=0.2)


def test_other_real_images_stand_beside_the_synthetic_ones_by_hand() -> None:
    def around(degrees: list[float]) -> Vectors:
        """Directions in a plane."""
        return np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)], np.float32)

    # Learnt at 0, held out at 90 degrees. All synthetic images lie near the former, a quarter of the others do.
    learnt, held_out = around([0] * 10), around([90] * 10)
    others = around([20, 70, 80, 60] * 3)
    found = stage.memorisation(around([10] * 12), learnt, held_out, others, 0)
    assert found is not None
    assert (found["closer_to_training"]["share"], found["closer_to_training"]["n"]) == (1, 12)
    assert (found["closer_real"]["share"], found["closer_real"]["n"]) == (0.25, 12)
    # The exact interval of three in twelve: at its ends one tail has 2.5 %.
    low, high = found["closer_real"]["low"], found["closer_real"]["high"]
    assert binom.sf(2, 12, low) == pytest.approx(0.025) and binom.cdf(3, 12, high) == pytest.approx(0.025)
    # Of fewer than ten the interval would reach so far that nothing could be warned of.
    few = stage.memorisation(around([10] * 12), learnt, held_out, others[:9], 0)
    assert few is not None and few["closer_real"] is None


def test_borrowed_images_are_compared_with_held_out_images_of_the_lender() -> None:
    lent, own = drawn(40, 1, shift=2.0), drawn(40, 2)
    made = units(lent.astype(float) + 1e-3)
    held_out = images(np.concatenate([own, lent]), [A] * 40 + [B] * 40)
    learnt, accepted = drawn(40, 3, shift=2.0), images(made, [A] * 40)

    def closer(lender: Group) -> float:
        found = stage.group_figures(A, accepted, accepted, held_out, drawn(40, 4), learnt, lender, drawn(19, 5), 0)
        assert found["memorisation"]["closer_real"]["n"] == 19, "the lender's other images, not the group's own"
        return float(found["memorisation"]["closer_to_training"]["share"])

    # They are all but equal to held-out images of the lender, and far from those of their own group.
    assert closer(B) == 0 and closer(A) == 1


def test_the_figures_of_each_adapter_by_hand() -> None:
    vectors = drawn(7, 0)
    groups = [A, A, A, B, B, A, C]
    names = ["x", "y", "x", "x", "x", None, "one"]
    clusters = [0, 1, 0, 0, 0, 0, 5]
    learnt = {"x": drawn(20, 1), "y": units(np.concatenate([vectors[1:2], drawn(3, 2)])), "one": drawn(1, 3)}
    rows = [{"adapter": name, "cluster": cluster} for name, cluster in zip(names, clusters, strict=True)]
    found = stage.cluster_figures(
        rows, Images(vectors, groups, [A, A, B, A, B, A, C], groups), learnt, NONE, NO_OTHERS, 0
    )
    assert all(f["fidelity"] == {"synthetic": None, "held_out": None} for f in found)
    assert [(f["label"], f["attribute"], f["adapter"], f["cluster"], f["synthetic"], f["learnt"]) for f in found] == [
        ("high", "building", "x", 0, 2, 20),
        ("low", "building", "", 0, 1, 0),
        ("low", "building", "x", 0, 2, 20),
        ("low", "building", "y", 1, 1, 4),
        ("low", "flower", "one", 5, 1, 1),
    ]
    assert [f["agreement"]["probe"]["both"] for f in found] == [0.5, 1, 0.5, 1, 1]
    assert [f["nearest_ratio"] is None for f in found] == [False, True, False, False, True]
    # That of y is the image itself, once more.
    assert found[3]["nearest_ratio"] == pytest.approx(0, abs=1e-6)
    distances = np.sort(np.linalg.norm(vectors[[3, 4], None] - learnt["x"][None], axis=2), axis=1)
    # The 1 % quantile of two values.
    ratios = np.sort(distances[:, 0] / distances[:, 1])
    assert found[0]["nearest_ratio"] == pytest.approx(ratios[0] + 0.01 * (ratios[1] - ratios[0]), rel=1e-4)


def test_a_cluster_is_compared_with_its_groups_real_images_and_as_many_others() -> None:
    synthetic, held_out, known = images(drawn(30, 0), [A] * 30), images(drawn(40, 1), [A] * 25 + [B] * 15), drawn(50, 2)
    rows = [{"adapter": "x" if i < 20 else "y", "cluster": 0} for i in range(30)]
    found = stage.cluster_figures(rows, synthetic, {}, held_out, {A: known}, 7)
    for figures, (start, end) in zip(found, ((0, 20), (20, 30)), strict=True):
        n, real = end - start, held_out.embeddings_ND[:25]
        assert figures["fidelity"] == {
            "synthetic": stage.fidelity(synthetic.embeddings_ND[start:end], real, n, 7),
            "held_out": stage.fidelity(known, real, n, 7),
        }
        assert figures["fidelity"]["synthetic"]["n"] == figures["fidelity"]["held_out"]["n"] == n

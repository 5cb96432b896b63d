"""The audit: figures on made-up worlds whose answers are known, and a warning for each thing that is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import binom

from fairsynth.groups import Group
from fairsynth.stages.audit import figures as stage
from fairsynth.stages.audit.figures import Images
from fairsynth.stages.audit.memorisation import KINDS, Count, SelfTest

A, B, C = Group("low", "building"), Group("high", "building"), Group("low", "flower")
WIDTH = 16
Vectors = NDArray[np.float32]


def units(rows: NDArray[Any]) -> Vectors:
    """Rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int, seed: int, shift: float = 0.0, spread: float = 0.3) -> Vectors:
    """Unit vectors about one direction; the shift moves them in another one."""
    rows = spread * np.random.default_rng(seed).normal(size=(n, WIDTH))
    rows[:, 0] += 1
    rows[:, 1] += shift
    return units(rows)


def images(vectors: Vectors, groups: Sequence[Group], seen: Sequence[Group] | None = None) -> Images:
    """Images that are seen as what they should be, or as said."""
    return Images(vectors, groups, seen or groups, groups)


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
    assert {kind: shown["probe"] for kind, shown in found["agreement"].items()} == {
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
    ours, reference = (perfect["fidelity"][kind] for kind in ("synthetic", "held_out"))
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


def from_generators(*made: tuple[str, str, int], attribute: str = "building") -> dict[str, Any]:
    """What is said of an attribute whose images come so: (label, way, how many), each image by an adapter of its own."""
    groups = [Group(label, attribute) for label, _, n in made for _ in range(n)]
    ways = [way for _, way, n in made for _ in range(n)]
    rows = [{"adapter": f"adapter {i}", "route": way} for i, way in enumerate(ways)]
    vectors = drawn(len(rows), 0)
    (found,) = stage.shortcuts(images(vectors, groups), rows, images(drawn(4, 1), [A, B, A, B]), 0)
    assert found["attribute"] == attribute
    return found


def test_how_far_the_generator_gives_the_label_away_by_hand() -> None:
    one = from_generators(("low", "prompt", 5), ("high", "prompt", 3))
    assert (one["label_from_generator"], one["chance"]) == (0.5, 0.5)
    assert from_generators(("low", "composed", 5), ("high", "same-label", 3))["label_from_generator"] == 1
    assert from_generators(("low", "own", 5), ("high", "prompt", 3))["label_from_generator"] == 1
    # Prompts: 3/4 of low against 1/2 of high; composed: 1/4 against 1/2. Said low for the former, high for the latter.
    mixed = from_generators(
        ("low", "prompt", 3), ("low", "composed", 1), ("high", "prompt", 2), ("high", "composed", 2)
    )
    assert mixed["label_from_generator"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    # A large label does not make it look better: nine in ten of all images are low.
    large = from_generators(("low", "own", 900), ("high", "own", 100))
    assert large["label_from_generator"] == 0.5
    three = from_generators(("low", "own", 4), ("high", "own", 4), ("middle", "prompt", 4))
    assert (three["label_from_generator"], three["chance"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    alone = from_generators(("low", "own", 4))
    assert (alone["label_from_generator"], alone["chance"]) == (1, 1)
    assert one["style"] is None, "of so few images nothing is said"


def test_adapters_of_the_attributes_own_groups_are_one_kind_of_generator() -> None:
    assert from_generators(("low", "own", 5), ("high", "same-attribute", 3))["label_from_generator"] == 0.5
    # Those of the label's groups have learnt other backgrounds: they are none of that kind.
    for other in ("same-label", "same-label-late", "composed", "prompt"):
        assert from_generators(("low", "own", 5), ("high", other, 3))["label_from_generator"] == 1
        assert from_generators(("low", "same-attribute", 5), ("high", other, 3))["label_from_generator"] == 1
    # Of low all are of the kind; of high half are: said low for it, high for prompts.
    half = from_generators(("low", "own", 2), ("low", "same-attribute", 2), ("high", "own", 2), ("high", "prompt", 2))
    assert half["label_from_generator"] == pytest.approx((1 + 1 / 2) / 2)


def test_each_attribute_is_looked_at_alone() -> None:
    groups = [A, B, C, Group("high", "flower")] * 3
    rows = [{"adapter": "x", "route": way} for way in ("own", "own", "own", "prompt")] * 3
    found = stage.shortcuts(images(drawn(12, 0), groups), rows, images(drawn(4, 1), groups[:4]), 0)
    assert [(f["attribute"], f["label_from_generator"]) for f in found] == [("building", 0.5), ("flower", 1.0)]


def world(shift: float) -> tuple[Images, Images]:
    """Synthetic and real images of A and B; those of B lie beside the real ones by the shift."""
    synthetic = np.concatenate([drawn(100, 0), drawn(100, 1, shift)])
    groups = [A] * 100 + [B] * 100
    return images(synthetic, groups), images(drawn(200, 2), groups)


def test_style_that_tells_the_label_is_seen() -> None:
    rows = [{"adapter": None, "route": "prompt"}] * 200
    for shift, told in ((0.0, False), (1.0, True)):
        synthetic, real = world(shift)
        (found,) = stage.shortcuts(synthetic, rows, real, 0)
        style = found["style"]
        assert found["label_from_generator"] == 0.5
        assert (style["synthetic"]["low"] > 0.7) == told
        assert style["real"]["low"] < 0.5 < style["real"]["high"]
        if told:
            assert (style["label"], style["more_real"]) == ("low", True)


def self_test(found: int = 58, alarms: int = 1, planted: int = 60, held_out: int = 100) -> SelfTest:
    """A test with so many copies of each kind found, and so many false alarms."""
    return SelfTest({kind: Count(found, planted) for kind in KINDS}, Count(alarms, held_out), 0.875)


def audit_of(shift: float = 0.0, by_heart: bool = False, test: SelfTest | None = None) -> dict[str, Any]:
    """A whole audit of a made-up set."""
    synthetic, real = world(shift)
    learnt = {A: drawn(50, 5), B: drawn(50, 6)}
    if by_heart:
        synthetic = images(
            np.concatenate([np.tile(learnt[A], (2, 1)), synthetic.embeddings_ND[100:]]), synthetic.groups
        )
    rows = [{"adapter": "x", "cluster": 0, "route": "own"}] * 200
    known = [drawn(100, 7), drawn(100, 8)]
    return {
        "groups": [
            stage.group_figures(group, synthetic, synthetic, real, others, learnt[group], group, others, 0)
            for group, others in zip((A, B), known, strict=True)
        ],
        "clusters": stage.cluster_figures(
            rows, synthetic, {"x": learnt[A]}, real, dict(zip((A, B), known, strict=True)), 0
        ),
        "shortcuts": stage.shortcuts(synthetic, rows, real, 0),
        "copies": {"self_test": stage.self_test_facts(test or self_test()), "flagged": 0, "images": 200},
    }


CLOSER = {"share": 0.6, "low": 0.55}
COPIES = {"self_test": {"passed": True, "false_alarms": {"share": 0.02}}, "flagged": 2, "images": 100}


def test_there_is_nothing_to_warn_of_in_an_ideal_set() -> None:
    assert stage.warnings(audit_of()) == []
    assert stage.warnings({"groups": [], "shortcuts": [], "copies": COPIES}) == []


def test_each_thing_that_is_wrong_is_warned_of_in_words() -> None:
    away = stage.warnings(audit_of(shift=1.0))
    assert len(away) == 2
    assert away[0].startswith("(high, building): a classifier can tell synthetic from real images (AUC ")
    assert away[1].startswith("building: images of low look more real than others (AUC ")
    assert away[1].endswith("which a classifier can learn in place of the label")
    heart = stage.warnings(audit_of(by_heart=True))
    assert "(low, building): 100% of the images are nearer to training than to held-out images" in heart
    assert not [line for line in heart if line.startswith("(high")]
    failed = stage.warnings(audit_of(test=self_test(found=40)))
    assert failed == ["privacy not measured: the detector of copies did not pass its self-test"]


@pytest.mark.parametrize(
    ("path", "value", "warned"),
    [
        (("groups", 0, "fidelity", "synthetic", "detectability", "low"), 0.81, "(AUC 0.50)"),
        (("groups", 0, "fidelity", "synthetic", "detectability", "low"), 0.80, ""),
        (("groups", 0, "fidelity", "synthetic", "detectability"), None, ""),
        (("groups", 0, "fidelity", "synthetic"), None, ""),
        (("groups", 0, "memorisation", "closer_to_training", "low"), 0.51, "60% of the images are nearer to training"),
        (("groups", 0, "memorisation", "closer_to_training", "low"), 0.50, ""),
        # Other real images are nearer as well: the reference images alone may have tipped it.
        (("groups", 0, "memorisation"), {"closer_to_training": CLOSER, "closer_real": {"high": 0.56}}, ""),
        (("groups", 0, "memorisation"), {"closer_to_training": CLOSER, "closer_real": {"high": 0.55}}, ""),
        (("groups", 0, "memorisation"), {"closer_to_training": CLOSER, "closer_real": {"high": 0.54}}, "60% of the"),
        (("groups", 0, "memorisation"), {"closer_to_training": CLOSER, "closer_real": None}, "60% of the images are"),
        (("groups", 0, "memorisation"), None, ""),
        (("shortcuts", 0, "style", "synthetic", "low"), 0.71, "images of low look less real than others (AUC 0.60)"),
        (("shortcuts", 0, "style", "synthetic", "low"), 0.70, ""),
        # Real images tell it as well.
        (("shortcuts", 0, "style"), {"synthetic": {"low": 0.8, "auc": 0.9}, "real": {"high": 0.81}}, ""),
        (
            ("shortcuts", 0, "style"),
            {"label": "x", "more_real": True, "synthetic": {"low": 0.8, "auc": 0.9}, "real": None},
            "building: images of x look more real than others (AUC 0.90)",
        ),
        (("shortcuts", 0, "style"), None, ""),
        (("copies", "self_test", "passed"), False, "privacy not measured"),
        (("copies", "flagged"), 3, "3 of 100 images look like copies of training images"),
        (("copies", "flagged"), None, ""),
    ],
    ids=str,
)
def test_where_the_warnings_begin(path: tuple[Any, ...], value: Any, warned: str) -> None:
    audit: dict[str, Any] = {
        "groups": [
            {
                "label": "low",
                "attribute": "building",
                "fidelity": {"synthetic": {"detectability": {"auc": 0.5, "low": 0.4}}},
                "memorisation": {"closer_to_training": {"share": 0.6, "low": 0.5}, "closer_real": {"high": 0.5}},
            }
        ],
        "shortcuts": [
            {
                "attribute": "building",
                "style": {
                    "label": "low",
                    "more_real": False,
                    "synthetic": {"auc": 0.6, "low": 0.5},
                    "real": {"high": 0.6},
                },
            }
        ],
        "copies": COPIES,
    }
    assert stage.warnings(audit) == []
    changed = copy.deepcopy(audit)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    found = stage.warnings(changed)
    assert [warned in line for line in found] == ([True] if warned else [])


def test_the_detectors_rates_are_told_kind_by_kind() -> None:
    test = SelfTest({"plain": Count(60, 60), "cropped": Count(54, 60)}, Count(2, 100), 0.875)
    assert stage.self_test_facts(test) == {
        "passed": True,
        "threshold": 0.875,
        "detected": {"share": 114 / 120, "n": 120},
        "false_alarms": {"share": 0.02, "n": 100},
        "by_kind": {"plain": {"share": 1.0, "n": 60}, "cropped": {"share": 0.9, "n": 60}},
    }
    assert stage.self_test_facts(self_test(alarms=3))["passed"] is False
    nothing = stage.self_test_facts(None)
    assert nothing["passed"] is False and "too few real images" in nothing["why"] and "threshold" not in nothing


def test_an_audit_is_json_without_nan() -> None:
    made, real = images(drawn(3, 0), [A] * 3), images(drawn(2, 1), [B] * 2)
    few = stage.group_figures(A, made, made, real, drawn(0, 2), drawn(0, 3), A, drawn(0, 4), 0)
    assert (few["synthetic"], few["held_out"], few["agreement"]["held_out"]) == (3, 0, None)
    for found in (audit_of(), audit_of(shift=1.0, by_heart=True, test=self_test(0)), few):
        assert json.loads(json.dumps(found, allow_nan=False)) == found

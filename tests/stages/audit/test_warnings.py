"""What an audit warns of, where warnings begin, and how the detector's rates are told."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from fairsynth.stages.audit import figures as stage
from fairsynth.stages.audit.memorisation import DISGUISES, Count, SelfTest
from tests.support.figures import A, B, drawn, images, world


def self_test(found: int = 58, alarms: int = 1, planted: int = 60, held_out: int = 100) -> SelfTest:
    """A test with so many copies in each disguise found, and so many false alarms."""
    return SelfTest({disguise: Count(found, planted) for disguise in DISGUISES}, Count(alarms, held_out), 0.875)


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


def test_the_detectors_rates_are_told_disguise_by_disguise() -> None:
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

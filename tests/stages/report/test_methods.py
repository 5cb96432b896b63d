"""A method's part of report.json: every figure over its seeds, every group with its interval."""

from __future__ import annotations

import json

import pytest

from fairsynth.metrics import MethodScores, score, wilson
from fairsynth.stages.report.methods import method_entry
from tests.support.report.texts import EVIL, GROUPS, MORE, method


def test_a_method_entry_has_every_figure_and_an_empty_group_has_none() -> None:
    entry = method_entry(method("erm", (9, 5, 3), (10, 4, 2)))
    wga = entry["worst_group_accuracy"]
    assert entry["name"] == "erm" and entry["seeds"] == [0, 1]
    assert wga["per_seed"] == [0.5, 0.4] and wga["mean"] == pytest.approx(0.45)
    assert wga["ci95"] == [0.0, 1.0]  # .45 -+ 12.7 * .05, cut to what an accuracy can be
    assert entry["accuracy"]["per_seed"] == [17 / 25, 16 / 25]
    assert entry["accuracy_group_mean"]["per_seed"] == pytest.approx([(0.9 + 0.5 + 0.6) / 3, (1 + 0.4 + 0.4) / 3])
    assert [(g["n"], g["accuracy"]) for g in entry["groups"]] == [
        (10, pytest.approx(0.95)),
        (10, pytest.approx(0.45)),
        (0, None),
        (5, pytest.approx(0.5)),
    ]
    assert entry["worst_group"] == {"label": EVIL, "attribute": "q", "n": 10}


def test_each_group_has_the_interval_that_its_test_images_allow() -> None:
    groups = method_entry(method("erm", (9, 5, 3), (10, 4, 2)))["groups"]
    assert (groups[0]["n"], groups[0]["accuracy"]) == (10, 0.95)
    assert groups[0]["ci95"] == pytest.approx(list(wilson(10, 10)))  # 9.5 of 10, rounded to even
    assert groups[2]["ci95"] is None


def test_methods_are_compared_with_fairsynth_seed_by_seed() -> None:
    ours = method("fairsynth", (8, 8, 4), (8, 7, 4))
    # 8 of 10 and 7 of 10 against 5 of 10 and 4 of 10.
    found = method_entry(method("erm", (9, 5, 3), (10, 4, 2)), None, ours)["fairsynth_minus_this"]
    assert (found["mean"], found["ci95_repeats"]) == (pytest.approx(0.3), [pytest.approx(0.3)] * 2)
    assert found["ci95"][0] < 0 and found["verdict"] == "inconclusive" and "10 are needed" not in found["why"]
    assert "fairsynth_minus_this" not in method_entry(ours, None, ours)


def test_further_figures_are_told_and_what_is_undefined_is_null() -> None:
    entry = method_entry(method("erm", (9, 5, 3), (10, 4, 2)), MORE)
    assert entry["ece"]["mean"] == pytest.approx(0.072) and entry["ece"]["per_seed"] == [0.071, 0.073]
    ours = method_entry(method("fairsynth", (8, 8, 4), (8, 7, 4)), {"ece": [None, 0.1]})
    assert ours["ece"] == {"mean": None, "ci95": None, "per_seed": None}
    # The groups with test images have no training images, so the training prior says nothing.
    undefined = [score([True, False], [GROUPS[0], GROUPS[1]], GROUPS, {GROUPS[2]: 5}) for _ in range(2)]
    entry = method_entry(MethodScores("erm", (0, 1), tuple(undefined)), MORE)
    assert entry["accuracy_train_prior"] == {"mean": None, "ci95": None, "per_seed": None}
    json.dumps(entry, allow_nan=False)


def test_one_seed_has_no_interval() -> None:
    assert method_entry(method("erm", (9, 5, 3)))["worst_group_accuracy"]["ci95"] is None

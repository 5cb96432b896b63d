"""The first screen in words: one sentence with the figures, what was compared, what to do."""

from __future__ import annotations

from typing import Any

import pytest

from fairsynth.stages.report.first_screen import compared_sentence, next_steps, verdict_sentence


def report_of(verdict: str, mean: float, ci95: list[float] | None, **more: Any) -> dict[str, Any]:
    difference = {"mean": mean, "ci95": ci95, "verdict": verdict, "why": ""}
    groups = [
        {"label": "a", "attribute": "b", "n": 100, "accuracy": 0.5},
        {"label": "a", "attribute": "c", "n": 0, "accuracy": None},
    ]
    facts = {"seeds": [0, 1, 2], "groups": groups}
    erm = {"name": "erm", "worst_group_accuracy": {"mean": 0.6}, "fairsynth_minus_this": difference} | facts
    ours = {"name": "fairsynth", "worst_group_accuracy": {"mean": 0.6 + mean}} | facts
    use = {"would_help": ["More real images."]}
    return {"verdict": verdict, "verdict_why": "", "methods": [erm, ours], "synthetic_images": use, "checks": []} | more


@pytest.mark.parametrize(
    ("verdict", "mean", "ci95", "begins", "ends"),
    [
        ("improved", 0.374, [0.275, 0.467], "fairsynth's classifier is better: ", "+37.4 points (95 % interval +27.5 to +46.7)."),
        ("not improved", -0.1, [-0.2, -0.05], "fairsynth's classifier is not better: ", "-10.0 points (95 % interval -20.0 to -5.0)."),
        ("inconclusive", 0.01, [-0.2, 0.2], "It is not settled whether ", "+1.0 points (95 % interval -20.0 to +20.0)."),
        ("inconclusive", 0.01, None, "It is not settled whether ", "+1.0 points (one training, no interval)."),
    ],
)  # fmt: skip
def test_the_verdict_is_one_sentence_with_its_interval(
    verdict: str, mean: float, ci95: list[float] | None, begins: str, ends: str
) -> None:
    told = verdict_sentence(report_of(verdict, mean, ci95))
    assert told.startswith(begins) and told.endswith(ends)
    assert f"{0.6 + mean:.1%} of the test images, ordinary training (ERM) for 60.0%" in told


def test_without_both_methods_there_is_no_verdict() -> None:
    report = report_of("inconclusive", 0.1, None)
    report["methods"] = report["methods"][:1]
    assert verdict_sentence(report).startswith("There is no verdict:")
    assert compared_sentence(report).startswith("ERM was trained 3 times")
    assert next_steps(report)[0].startswith("For a verdict train both ERM and fairsynth")


def test_what_was_compared_is_counted() -> None:
    told = compared_sentence(report_of("improved", 0.3, [0.2, 0.4]))
    assert told.startswith("ERM and fairsynth were trained 3 times from different seeds,")
    assert "the same 100 images in 1 group that" in told


def test_a_failed_check_comes_before_everything() -> None:
    passed = report_of("improved", 0.3, [0.2, 0.4])
    assert next_steps(passed)[0].startswith("Use the classifier") and next_steps(passed)[-1] == "More real images."
    failed = passed | {"checks": [{"key": "ids", "passed": None}, {"key": "files", "passed": False}]}
    assert "trust no figure" in next_steps(failed)[0] and next_steps(failed)[1:] == next_steps(passed)
    unknown = passed | {"checks": [{"key": "ids", "passed": None}, {"key": "files", "passed": True}]}
    assert next_steps(unknown) == next_steps(passed)


def test_what_a_detector_that_failed_means_is_told_apart() -> None:
    passed = report_of("improved", 0.3, [0.2, 0.4])
    steps = next_steps(passed | {"checks": [{"key": "copy_detector", "passed": False}]})
    assert "pass on neither images nor adapters" in steps[0] and steps[1:] == next_steps(passed)


def test_a_rival_that_is_as_good_is_named() -> None:
    report = report_of("improved", 0.3, [0.2, 0.4])
    rival = dict(report["methods"][0], name="group-dro")
    rival["fairsynth_minus_this"] = {"mean": 0.02, "ci95": [-0.01, 0.05], "verdict": "inconclusive", "why": ""}
    report["methods"].insert(1, rival)
    (named,) = [step for step in next_steps(report) if "Group-DRO" in step]
    assert "+2.0 points" in named and "ERM" not in named


def test_each_verdict_has_its_advice() -> None:
    worse = next_steps(report_of("not improved", -0.1, [-0.2, -0.05]))
    assert "Do not use fairsynth's classifier" in worse[0] and "that of ERM (60.0%)" in worse[0]
    open_ = next_steps(report_of("inconclusive", 0.01, [-0.1, 0.2], verdict_why="(a, b) has 12 test images"))
    assert "(a, b) has 12 test images" in open_[0] and "more than 3 seeds (evaluate.seeds)" in open_[0]

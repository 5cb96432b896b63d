"""The first screen in words: the verdict in one sentence, what was compared, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.classify.methods import TITLES
from fairsynth.stages.report.checks import DETECTOR

Report = Mapping[str, Any]


def in_words(report: Report) -> dict[str, Any]:
    """The part ``in_words`` of report.json: ``verdict`` and ``compared``, sentences; ``next``, what to do, by importance."""
    return {"verdict": verdict_sentence(report), "compared": compared_sentence(report), "next": next_steps(report)}


def verdict_sentence(report: Report) -> str:
    """The verdict, its figures and its interval, without a word that needs explaining."""
    methods = _by_name(report)
    ours, erm = methods.get("fairsynth"), methods.get("erm")
    if ours is None or erm is None:
        return "There is no verdict: fairsynth and ordinary training (ERM) were not both trained."
    difference = erm.get("fairsynth_minus_this")
    figures = (
        f"in the group where each does worst, fairsynth's classifier is right for {_worst(ours):.1%} of the test images, "
        f"ordinary training (ERM) for {_worst(erm):.1%}"
    )
    if difference is None:
        return f"It cannot be said whether fairsynth's classifier is better: {figures}, from different seeds."
    opening = {
        "improved": "fairsynth's classifier is better",
        "not improved": "fairsynth's classifier is not better",
    }.get(difference["verdict"], "It is not settled whether fairsynth's classifier is better")
    return f"{opening}: {figures}, a difference of {points(difference)}."


def points(difference: Mapping[str, Any]) -> str:
    """A difference of shares in percentage points, with its 95 % interval."""
    bounds = difference["ci95"]
    interval = (
        f"95 % interval {100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}" if bounds else "one training, no interval"
    )
    return f"{100 * difference['mean']:+.1f} points ({interval})"


def compared_sentence(report: Report) -> str:
    """Which methods were compared, how often each was trained, and on which images."""
    methods = report["methods"]
    if not methods:
        return "No method was compared."
    names = [TITLES.get(method["name"], method["name"]) for method in methods]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    images = sum(group["n"] for group in methods[0]["groups"])
    groups = sum(group["n"] > 0 for group in methods[0]["groups"])
    seeds = len(methods[0].get("seeds", ()))
    times = "once" if seeds == 1 else f"{seeds} times from different seeds" if seeds else "several times"
    return (
        f"{listed} {'were' if len(names) > 1 else 'was'} trained {times}, each with the best settings that its own search "
        f"found on validation images, and tested on the same {images} images in {groups} {'group' if groups == 1 else 'groups'} that no training had seen."
    )


def next_steps(report: Report) -> list[str]:
    """What to do next, the most important first."""
    failed = {check["key"] for check in report.get("checks", ()) if check["passed"] is False}
    steps = []
    if failed - {DETECTOR}:
        steps.append("First find out why a check failed: until then trust no figure of this report.")
    if DETECTOR in failed:
        steps.append("Copies of training images could not be searched for: pass on neither images nor adapters.")
    steps += {"improved": _improved, "not improved": _not_improved}.get(report["verdict"], _unsettled)(report)
    return [*steps, *report["synthetic_images"]["would_help"]]


def _improved(report: Report) -> list[str]:
    equal = [
        f"{TITLES.get(method['name'], method['name'])}: {points(difference)}"
        for method in report["methods"]
        if (difference := method.get("fairsynth_minus_this")) and difference["verdict"] != "improved"
    ]
    steps = [
        "Use the classifier in the folder classifier/: 'fairsynth predict IMAGES --run RUN'. Before that, look below at the "
        "accuracy of every group that matters to you."
    ]
    if equal:
        steps.append(
            f"Where another method is easier for you to train, it may do. fairsynth is not shown to be better than {'; '.join(equal)}."
        )
    return steps


def _not_improved(report: Report) -> list[str]:
    best = max(report["methods"], key=_worst)
    name = TITLES.get(best["name"], best["name"])
    return [
        f"Do not use fairsynth's classifier for its fairness here. The highest worst-group accuracy is that of {name} "
        f"({_worst(best):.1%})."
    ]


def _unsettled(report: Report) -> list[str]:
    if not {"erm", "fairsynth"} <= {method["name"] for method in report["methods"]}:
        return ["For a verdict train both ERM and fairsynth, as by default: leave out tune.methods."]
    why = report.get("verdict_why") or "the interval holds both gains and losses"
    seeds = (report["methods"] or [{}])[0].get("seeds", ())
    more = f"from more than {len(seeds)} seeds (evaluate.seeds)" if seeds else "from more seeds (evaluate.seeds)"
    return [
        f"Do not call it better or worse: {why}. Train {more}, or test on more images of the smallest groups; finished "
        "stages are kept."
    ]


def _by_name(report: Report) -> dict[str, Any]:
    return {method["name"]: method for method in report["methods"]}


def _worst(method: Mapping[str, Any]) -> float:
    return float(method["worst_group_accuracy"]["mean"])

"""A report with a method or two, and text that must stay text in every place that data can fill."""

from __future__ import annotations

from typing import Any

from fairsynth.groups import Group
from fairsynth.metrics import MethodScores, score
from fairsynth.stages.report.first_screen import in_words
from fairsynth.stages.report.methods import method_entry
from tests.support.audits import MADE, audit, synthesis

EVIL = "<img src=x onerror=alert(1)>"
QUOTES = "\"><script>alert('x')</script>{{ 7*7 }}&amp;"
GROUPS = [Group(EVIL, "p"), Group(EVIL, "q"), Group(QUOTES, "p"), Group(QUOTES, "q")]
MORE = {"equalized_odds_difference": [0.31, 0.33], "ece": [0.071, 0.073]}


def method(name: str, *right: tuple[int, int, int]) -> MethodScores:
    """A method with so many right of 10, 10, 0 and 5 images in each seed."""
    scores = []
    for numbers in right:
        counts = list(zip(GROUPS, (10, 10, 0, 5), (*numbers[:2], 0, numbers[2]), strict=True))
        pairs = [(i < hits, group) for group, n, hits in counts for i in range(n)]
        scores.append(score([hit for hit, _ in pairs], [g for _, g in pairs], GROUPS, dict.fromkeys(GROUPS, 1)))
    return MethodScores(name, tuple(range(len(right))), tuple(scores))


def told(report: dict[str, Any]) -> dict[str, Any]:
    """The report with its first screen, in words, from what it holds now."""
    return report | {"in_words": in_words(report)}


def report_of(text: str = EVIL, other: str = QUOTES) -> dict[str, Any]:
    """A report of two methods in which every text from the data is one of two."""
    group = {"label": text, "attribute": other, "real": 4321, "synthetic": 1234, "generator": "own", "k": 3}
    group |= {"rejected": {text: 17}, "remark": other, "not_made": ""} | MADE
    stage = {"name": "embed", "seconds": 12.34, "startup_seconds": 1.5, "units": 7, "cached": 2, "workers": 2}
    stage |= {"input": 90, "used": 80, "quarantined": 6, "excluded": 4}
    ours = method("fairsynth", (8, 8, 4), (8, 7, 4))
    methods = [
        method_entry(method("erm", (9, 5, 3), (10, 4, 2)), MORE, ours),
        method_entry(ours, {"equalized_odds_difference": [0.1234, 0.2], "ece": [None, 0.1]}, ours),
    ]
    severity = {"ratio": 0.999, "seed": 3, "kept": 654, "removed": 321, "sha256": "0123456789abcdef" * 4}
    data = {
        "root": text,
        "counts": {"input": 99, "used": 88, "quarantined": 7, "excluded": 4},
        "reasons": {"quarantined": {"empty": 5, text: 2}, "excluded": {}},
        "severity": severity,
        "remarks": [other, "a remark"],
    }
    report = {
        "verdict": "not improved",
        "verdict_why": "",
        "seed": 5,
        "generator": "lora",
        "dataset": {"train": [{"label": text, "attribute": other, "n": 4321}]},
        "data": data,
        "discovered": None,
        "methods": methods,
        "stages": [stage],
        "synthetic_images": {"line": f"Images were {text}", "would_help": [], "not_made": [], "images": 1234},
        "groups": [group],
        "synthesis": synthesis(text),
        "audit": audit(other),
        "settings": {"erm": {"epochs": 3}, "fairsynth": {"synthetic": "mix", "stage_2": "dfr", "epochs": 3}},
        "search_note": "",
        "config": {"tune": {"select": "worst-group"}, "data": {"root": text}},
        "checks": [{"key": "counts", "name": "No image is lost", "passed": True, "detail": text}],
        "provenance": {part: {"one": text} for part in ("versions", "models", "fingerprints", "sha256")},
    }
    return told(report)

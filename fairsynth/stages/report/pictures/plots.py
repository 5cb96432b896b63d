"""The numbers of the report's plots: lanes from 0 to 100 %, the search, and the severity curve of a bench.

The templates draw them as SVG: places along the lane are in percent, so a plot is as wide as its column, and its text
stays text of the page's size.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth.classify.methods import TITLES

FIGURE = "worst_group_accuracy"
# Groups whose accuracies are in sight; the others are folded.
IN_SIGHT = 6


@dataclass(frozen=True)
class Lane:
    """A point with whiskers, in percent, and what it is of. ``value`` is None where nothing was measured."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    ours: bool = False

    @property
    def told(self) -> str:
        """The value in words."""
        return "not measured" if self.value is None else f"{self.value:.1f}%"

    @property
    def interval(self) -> str:
        """The interval in words; empty without one."""
        return "" if self.low is None or self.high is None else f"{self.low:.1f} to {self.high:.1f}"


@dataclass(frozen=True)
class GroupLanes:
    """A group's accuracies, a lane for each method."""

    label: str
    attribute: str
    n: int
    lanes: Sequence[Lane]

    @property
    def lowest(self) -> float:
        """The lowest accuracy of any method; groups without test images come last."""
        return min((lane.value for lane in self.lanes if lane.value is not None), default=101.0)


def method_lanes(methods: Sequence[Mapping[str, Any]], figure: str = FIGURE) -> list[Lane]:
    """A figure of every method with its interval over seeds."""
    return [_lane(_title(method), method[figure]["mean"], method[figure]["ci95"], method["name"]) for method in methods]


def group_lanes(methods: Sequence[Mapping[str, Any]]) -> list[GroupLanes]:
    """The accuracies of all groups, those first in which some method does worst."""
    found = []
    for place, group in enumerate(methods[0]["groups"] if methods else ()):
        lanes = [
            _lane(_title(method), its["accuracy"], its.get("ci95"), method["name"])
            for method in methods
            for its in [method["groups"][place]]
        ]
        found.append(GroupLanes(group["label"], group["attribute"], group["n"], lanes))
    return sorted(found, key=lambda group: group.lowest)


def _title(method: Mapping[str, Any]) -> str:
    return TITLES.get(method["name"], method["name"])


def _lane(name: str, value: float | None, bounds: Sequence[float] | None, method: str) -> Lane:
    low, high = (100 * bounds[0], 100 * bounds[1]) if bounds and value is not None else (None, None)
    return Lane(name, None if value is None else 100 * value, low, high, method == "fairsynth")


@dataclass(frozen=True)
class Trials:
    """A method's trials: place in percent, whether it ran to its end, whether it was chosen."""

    name: str
    dots: Sequence[tuple[float, bool, bool]]
    tried: int

    @property
    def chosen(self) -> str:
        """The figure of the chosen trial in words."""
        return next((f"{place:.1f}%" for place, _, chosen in self.dots if chosen), "none")


def read_trials(file: Path, rule: str) -> list[Trials]:
    """The search of each method by the figure that ``rule`` (tune.select) chooses by, from tune's table."""
    figure = {"worst-group": FIGURE, "worst-class": "worst_class_accuracy"}.get(rule, "accuracy")
    by_method: dict[str, list[tuple[float, bool, bool]]] = {}
    tried: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(file.read_text("utf-8"))):
        tried[row["method"]] = tried.get(row["method"], 0) + 1
        dots = by_method.setdefault(row["method"], [])
        if row[figure]:
            dots.append((100 * float(row[figure]), row["finished"] == "true", row["chosen"] == "true"))
    return [Trials(TITLES.get(name, name), dots, tried[name]) for name, dots in by_method.items()]


@dataclass(frozen=True)
class Curve:
    """A bench's rows of one dataset: a lane for each row and level of bias, None where a row has no such level."""

    title: str
    levels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Lane | None]]]

    def place(self, level: int) -> float:
        """Where a level stands, in percent of the width."""
        return 100 * (level + 0.5) / len(self.levels)

    def lanes(self, level: int) -> list[Lane]:
        """All rows at a level."""
        return [lane for _, lanes in self.rows if (lane := lanes[level])]


def read_bench(text: str) -> list[Curve]:
    """Worst-group accuracy of each row of a bench (bench.json) as the bias grows; none from what is no such file."""
    try:
        panels: dict[str, dict[str, dict[str, Lane]]] = {}
        for row in json.loads(text)["rows"]:
            figure = row["figures"].get(FIGURE) or {"mean": None, "ci95": None}
            given = "" if row.get("validation", "given") == "given" else "validation as biased as training"
            title = ", ".join(part for part in (row.get("dataset"), given) if part)
            name = ", ".join(part for part in (_title({"name": row["method"]}), row.get("variant")) if part)
            lane = _lane(name, figure["mean"], figure["ci95"], row["method"])
            panels.setdefault(title, {}).setdefault(name, {})[str(row["severity"])] = lane
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [_curve(title, rows) for title, rows in panels.items()]


def _curve(title: str, rows: Mapping[str, Mapping[str, Lane]]) -> Curve:
    levels = list(dict.fromkeys(level for lanes in rows.values() for level in lanes))
    return Curve(title, levels, [(name, [lanes.get(level) for level in levels]) for name, lanes in rows.items()])

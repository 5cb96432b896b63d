"""Bench: fairsynth beside the best rival of each dataset, on the same repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairsynth.commands.bench.rows import Row
from fairsynth.metrics import MethodScores, paired
from fairsynth.verdict import Figure, compared

WORST_GROUP: Figure = "worst_group_accuracy"
ACCURACY: Figure = "accuracy"
# How far below the best rival fairsynth may be, at most: the goal in every cell.
MARGINS: Mapping[Figure, float] = {WORST_GROUP: 0.02, ACCURACY: 0.03}
# Differences are of shares; what floating point adds to one of exactly the margin is no miss.
_DIGITS = 9


@dataclass(frozen=True)
class Beside:
    """A row of fairsynth and the best rival of its dataset, severity and validation.

    ``rival``: the one with the highest mean worst-group accuracy on the test images over the repetitions that both have;
    of equals, with the higher accuracy. None if there is none, or if fairsynth failed. ``differences``: fairsynth minus
    rival by figure, in shares of 1, as ``fairsynth.verdict.compared`` gives them. ``over``: what was paired.
    """

    ours: Row
    rival: Row | None = None
    differences: Mapping[Figure, Mapping[str, Any]] | None = None
    over: str = ""

    @property
    def missed(self) -> tuple[Figure, ...]:
        """The figures in which fairsynth is further below the rival than its margin."""
        found = self.differences or {}
        return tuple(name for name, each in found.items() if round(each["mean"], _DIGITS) < -MARGINS[name])


def beside(table: Sequence[Row]) -> list[Beside]:
    """A comparison for every row of fairsynth, level by level."""
    places = dict.fromkeys((row.level, row.dataset) for row in table)
    levels = list(dict.fromkeys(level for level, _ in places))
    found = []
    for level, dataset in sorted(places, key=lambda place: levels.index(place[0])):
        here = [row for row in table if (row.level, row.dataset) == (level, dataset)]
        rivals = [row for row in here if row.method != "fairsynth"]
        found += [_beside(row, rivals) for row in here if row.method == "fairsynth"]
    return found


def _beside(ours: Row, rivals: Sequence[Row]) -> Beside:
    able = [rival for rival in rivals if _common(ours, rival)]
    if not able:
        return Beside(ours)
    rival = max(able, key=lambda row: tuple(np.mean(_means(row, f, _common(ours, row))) for f in MARGINS))
    differences = {figure: difference(ours, rival, figure) for figure in MARGINS}
    return Beside(ours, rival, differences, _over(ours, rival))


def difference(ours: Row, theirs: Row, figure: Figure) -> dict[str, Any]:
    """Ours minus theirs, paired: the means of the repetitions that both have, or the training seeds of a single one.

    Without an interval where a single repetition has another number of training seeds. Raises ValueError if no
    repetition is common.
    """
    common = _common(ours, theirs)
    if not common:
        raise ValueError("no repetition is common to both")
    return compared(_scores(ours, common), _scores(theirs, common), figure)


def _scores(row: Row, repetitions: Sequence[int]) -> list[MethodScores]:
    return [row.scores[row.repetitions.index(number)] for number in repetitions]


def _common(one: Row, other: Row) -> list[int]:
    return sorted({*one.repetitions} & {*other.repetitions})


def _means(row: Row, figure: str, repetitions: Sequence[int]) -> list[float]:
    return [float(np.mean(row.values[figure][row.repetitions.index(number)])) for number in repetitions]


def _over(ours: Row, theirs: Row) -> str:
    common = _common(ours, theirs)
    if len(common) > 1:
        return f"{len(common)} repetitions"
    seeds = [len(row.values[ACCURACY][row.repetitions.index(common[0])]) for row in (ours, theirs)]
    return f"{seeds[0]} training seeds" if seeds[0] == seeds[1] > 1 else "a single pair"


def average(found: Sequence[Beside], figure: Figure) -> dict[str, Any]:
    """The mean of the datasets' differences, and Student's interval of it over the datasets.

    Raises ValueError if none has a difference.
    """
    values = [float(one.differences[figure]["mean"]) for one in found if one.differences]
    if not values:
        raise ValueError("no dataset has a difference")
    return paired(values, [0.0] * len(values))


def to_entries(found: Sequence[Beside]) -> list[dict[str, Any]]:
    """The comparisons for JSON."""
    return [
        {
            "dataset": one.ours.dataset,
            "severity": one.ours.severity,
            "validation": one.ours.validation,
            "variant": one.ours.variant,
            "rival": one.rival.name if one.rival else None,
            "differences": one.differences,
            "over": one.over,
            "missed": list(one.missed),
        }
        for one in found
    ]

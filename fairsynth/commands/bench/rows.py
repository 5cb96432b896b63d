"""Bench: from the outcome of every cell of the grid to the rows of the table, over repetitions and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fairsynth.classify.methods import TITLES
from fairsynth.escaping import plain
from fairsynth.metrics import Interval, MethodScores, mean_interval

FIGURES = ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior")


@dataclass(frozen=True)
class Measured:
    """One method in one cell: its scores over training seeds, and what it cost.

    ``variant``: the generator, or the name of other settings; empty for methods without synthetic images.
    ``images``: synthetic images made, rejected ones too. ``seconds``: of workers (GPUs, or cores where there are
    none): of all stages whose results it uses. ``dataset``: its name, empty for the config's own. ``validation``: given
    or biased.
    """

    method: str
    variant: str
    severity: str
    repetition: int
    scores: MethodScores
    images: int
    seconds: float
    more: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    dataset: str = ""
    validation: str = "given"


@dataclass(frozen=True)
class Failed:
    """One method in a cell that ended for a reason of its data."""

    method: str
    variant: str
    severity: str
    repetition: int
    reason: str
    dataset: str = ""
    validation: str = "given"


@dataclass(frozen=True)
class Row:
    """One method on one dataset at one severity, over all repetitions and seeds.

    An interval is Student's over the repetitions' means if there are two or more, else over the training seeds; None
    for a single one of both. ``repetitions``: the number of each that ``values`` and ``scores`` hold. ``failed``: reasons of those that
    failed, by number; ``values`` are empty if all did.
    """

    method: str
    variant: str
    severity: str
    values: Mapping[str, list[list[float]]]
    worst_group: str
    worst_group_n: int
    images: int
    seconds: float
    dataset: str = ""
    validation: str = "given"
    repetitions: tuple[int, ...] = ()
    scores: tuple[MethodScores, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """Severity and validation for people."""
        return self.severity if self.validation == "given" else f"{self.severity}, {self.validation} validation"

    @property
    def name(self) -> str:
        """Name of the row."""
        return f"{TITLES[self.method]}, {self.variant}" if self.variant else TITLES[self.method]

    @property
    def markdown_name(self) -> str:
        """The name for a table's cell: a variant's name is hostile text."""
        return f"{TITLES[self.method]}, {plain(self.variant)}" if self.variant else TITLES[self.method]

    def mean(self, figure: str) -> float | None:
        """The mean over everything; None where it is undefined."""
        every = [value for repetition in self.values.get(figure, ()) for value in repetition]
        return float(np.mean(every)) if every and all(map(math.isfinite, every)) else None

    def interval(self, figure: str) -> Interval | None:
        """95 %."""
        if self.mean(figure) is None:
            return None
        repetitions = self.values[figure]
        return mean_interval([float(np.mean(r)) for r in repetitions] if len(repetitions) > 1 else repetitions[0])


def rows(outcomes: Sequence[Measured | Failed]) -> list[Row]:
    """The table's rows, in the order in which datasets, methods and severities first appear."""
    parts_of: dict[tuple[str, ...], list[Measured | Failed]] = {}
    for one in outcomes:
        key = (one.dataset, one.validation, one.method, one.variant, one.severity)
        parts_of.setdefault(key, []).append(one)
    return [_row(parts) for parts in parts_of.values()]


def _row(outcomes: Sequence[Measured | Failed]) -> Row:
    first, parts = outcomes[0], [one for one in outcomes if isinstance(one, Measured)]
    row = Row(
        first.method,
        first.variant,
        first.severity,
        values={},
        worst_group="",
        worst_group_n=0,
        images=0,
        seconds=0.0,
        dataset=first.dataset,
        validation=first.validation,
        repetitions=tuple(part.repetition for part in parts),
        failed={one.repetition: one.reason for one in outcomes if isinstance(one, Failed)},
    )
    return replace(row, **_measured(parts)) if parts else row


def _measured(parts: Sequence[Measured]) -> dict[str, Any]:
    """What a row has of the cells that did not fail."""
    values = {figure: [part.scores.values(figure) for part in parts] for figure in FIGURES}
    for figure in parts[0].more:
        values[figure] = [[math.nan if v is None else float(v) for v in part.more[figure]] for part in parts]
    pooled = MethodScores(parts[0].method, (), tuple(s for part in parts for s in part.scores.scores))
    group, n = pooled.worst_group()
    images, seconds = (sum(getattr(part, name) for part in parts) / len(parts) for name in ("images", "seconds"))
    return {
        "values": values,
        "scores": tuple(part.scores for part in parts),
        "worst_group": str(group),
        "worst_group_n": n,
        "images": round(images),
        "seconds": float(seconds),
    }

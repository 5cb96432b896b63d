"""Bench: from the scores of every cell of the grid to the table: rows over seeds, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairsynth.classify.methods import TITLES
from fairsynth.commands.bench.published import SOURCE, Published
from fairsynth.escaping import plain
from fairsynth.metrics import Interval, MethodScores, mean_interval

FIGURES = ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior")
_COLUMNS = ("method", "variant", "severity", "repetitions", "seeds", "worst_group", "worst_group_n", "images", "hours")


@dataclass(frozen=True)
class Measured:
    """One method in one cell: its scores over training seeds, and what it cost.

    ``variant``: the generator, or the name of other settings; empty for methods without synthetic images.
    ``images``: synthetic images made, rejected ones too. ``seconds``: of workers (GPUs, or cores where there are
    none): of all stages whose results it uses.
    """

    method: str
    variant: str
    severity: str
    repetition: int
    scores: MethodScores
    images: int
    seconds: float
    more: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One method at one severity, over all repetitions and seeds.

    An interval is Student's over the repetitions' means if there are two or more, else over the training seeds; None
    for a single one of both.
    """

    method: str
    variant: str
    severity: str
    values: Mapping[str, list[list[float]]]
    worst_group: str
    worst_group_n: int
    images: int
    seconds: float

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
        every = [value for repetition in self.values[figure] for value in repetition]
        return float(np.mean(every)) if every and all(map(math.isfinite, every)) else None

    def interval(self, figure: str) -> Interval | None:
        """95 %."""
        if self.mean(figure) is None:
            return None
        repetitions = self.values[figure]
        return mean_interval([float(np.mean(r)) for r in repetitions] if len(repetitions) > 1 else repetitions[0])


def rows(measured: Sequence[Measured]) -> list[Row]:
    """The table's rows, in the order in which methods and severities first appear."""
    parts_of: dict[tuple[str, str, str], list[Measured]] = {}
    for one in measured:
        parts_of.setdefault((one.method, one.variant, one.severity), []).append(one)
    return [_row(parts) for parts in parts_of.values()]


def _row(parts: Sequence[Measured]) -> Row:
    first = parts[0]
    values = {figure: [part.scores.values(figure) for part in parts] for figure in FIGURES}
    for figure in first.more:
        known = [[math.nan if v is None else float(v) for v in part.more[figure]] for part in parts]
        values[figure] = known
    pooled = MethodScores(first.method, (), tuple(s for part in parts for s in part.scores.scores))
    group, n = pooled.worst_group()
    images, seconds = (sum(getattr(part, name) for part in parts) / len(parts) for name in ("images", "seconds"))
    return Row(first.method, first.variant, first.severity, values, str(group), n, round(images), float(seconds))


def markdown(table: Sequence[Row], published: Sequence[Published] = (), unit: str = "worker-hours") -> str:
    """Worst-group accuracy by method and severity; accuracy and cost beside it; figures of others apart."""
    severities = list(dict.fromkeys(row.severity for row in table))
    lines = [_grid(table, severities, "worst_group_accuracy", "Worst-group accuracy"), ""]
    lines += [_grid(table, severities, "accuracy", "Accuracy (mean over images)"), "", _costs(table, unit)]
    if published:
        levels = list(dict.fromkeys(p.severity for p in published))
        cells = {(p.method, p.severity): f"{p.worst_group_accuracy:.1f} / {p.average:.1f}" for p in published}
        names = list(dict.fromkeys(p.method for p in published))
        body = [[name, *(cells.get((name, level), "") for level in levels)] for name in names]
        lines += ["", f"**Published by others, not measured here** ({SOURCE}), worst group / average, %:", ""]
        lines += [_table(["method", *levels], body)]
    return "\n".join(lines) + "\n"


def _grid(table: Sequence[Row], severities: Sequence[str], figure: str, title: str) -> str:
    by_name: dict[str, dict[str, Row]] = {}
    for row in table:
        by_name.setdefault(row.markdown_name, {})[row.severity] = row
    body = [
        [name, *(_share(cells[s], figure) if s in cells else "" for s in severities)] for name, cells in by_name.items()
    ]
    return f"**{title}**, mean and 95 % interval over {_over(table)}:\n\n" + _table(["method", *severities], body)


def _over(table: Sequence[Row]) -> str:
    repetitions = max(len(row.values["accuracy"]) for row in table)
    seeds = max(len(r) for row in table for r in row.values["accuracy"])
    return f"{repetitions} repetitions of {seeds} training seeds" if repetitions > 1 else f"{seeds} training seeds"


def _share(row: Row, figure: str) -> str:
    mean, interval = row.mean(figure), row.interval(figure)
    if mean is None:
        return "–"
    return f"{mean * 100:.1f}" + (f" ({interval.low * 100:.1f} – {interval.high * 100:.1f})" if interval else "")


def _costs(table: Sequence[Row], unit: str) -> str:
    last = {row.markdown_name: row for row in table}
    body = [
        [name, row.severity, f"{row.images:,}" if row.images else "0", f"{row.seconds / 3600:.3f}"]
        for name, row in last.items()
    ]
    return "**Cost** of one repetition at the last severity:\n\n" + _table(
        ["method", "bias", "images made", unit], body
    )


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    made = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in made)


def to_csv(table: Sequence[Row]) -> str:
    """A line for each method and severity, every figure with the bounds of its interval."""
    figures = list(dict.fromkeys(figure for row in table for figure in row.values))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"{f}{end}" for f in figures for end in ("", "_low", "_high"))])
    for row in table:
        known = row.values["accuracy"]
        cells: list[Any] = [row.method, row.variant, row.severity, len(known), len(known[0])]
        cells += [row.worst_group, row.worst_group_n, row.images, round(row.seconds / 3600, 5)]
        for figure in figures:
            mean = row.mean(figure) if figure in row.values else None
            interval = row.interval(figure) if mean is not None else None
            cells += [mean, *(interval or (None, None))]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return sink.getvalue()


def to_json(table: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with all values."""
    return [
        {
            **{name: getattr(row, name) for name in ("method", "variant", "severity", "worst_group", "worst_group_n")},
            "images": row.images,
            "worker_seconds": round(row.seconds, 1),
            "figures": {figure: _entry(row, figure) for figure in row.values},
        }
        for row in table
    ]


def _entry(row: Row, figure: str) -> dict[str, Any]:
    mean, interval = row.mean(figure), row.interval(figure)
    values = None if mean is None else row.values[figure]
    return {"mean": mean, "ci95": list(interval) if interval else None, "values": values}

"""Bench: the table of several datasets, and fairsynth beside the best rival of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairsynth.commands.bench.beside import ACCURACY, MARGINS, WORST_GROUP, Beside, average, beside
from fairsynth.commands.bench.rows import Row
from fairsynth.commands.bench.table import FIGURE_TITLES, by_dataset, by_method, failures, grid, lined_up, over
from fairsynth.escaping import plain

_NAMES = {WORST_GROUP: "worst group", ACCURACY: "accuracy"}
_GOAL = " or ".join(f"{100 * margin:g} points in {_NAMES[figure]}" for figure, margin in MARGINS.items())


def markdown_of_datasets(table: Sequence[Row], unit: str = "worker-hours") -> str:
    """Level by level worst-group accuracy and accuracy of each method on each dataset; then the differences."""
    parts = []
    for level in dict.fromkeys(row.level for row in table):
        here = [row for row in table if row.level == level]
        parts += [
            grid(
                here,
                f"**{title}, {level}**, mean and 95 % interval over {over(here)}:",
                figure,
                ("dataset", by_dataset),
                by_method,
            )
            for figure, title in FIGURE_TITLES.items()
        ]
    found = beside(table)
    parts += [_differences(found), _averages(found), _costs(table, unit), failures(table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _differences(found: Sequence[Beside]) -> str:
    if not found:
        return ""
    body = [
        [
            plain(one.ours.dataset),
            one.ours.level,
            one.ours.markdown_name,
            one.rival.markdown_name if one.rival else "–",
            *(_points((one.differences or {}).get(figure)) for figure in MARGINS),
            one.over or "–",
            _goal(one),
        ]
        for one in found
    ]
    return (
        "**fairsynth beside the best rival**: fairsynth minus rival in points, paired, with its 95 % interval over the "
        "repetitions, or over the training seeds of a single one, and over the test images. The best rival is the one with the highest mean "
        f"worst-group accuracy on the test images. The goal is missed by more than {_GOAL} below it.\n\n"
    ) + lined_up(["dataset", "bias", "row", "best rival", *(_NAMES[f] for f in MARGINS), "over", "goal"], body)


def _goal(one: Beside) -> str:
    if one.differences is None:
        return "failed" if one.ours.failed and not one.ours.values else "no rival"
    return f"**missed**: {' and '.join(_NAMES[figure] for figure in one.missed)}" if one.missed else "kept"


def _averages(found: Sequence[Beside]) -> str:
    """The mean of the differences over datasets, for each level and row of fairsynth."""
    groups: dict[tuple[str, str], list[Beside]] = {}
    for one in found:
        groups.setdefault((one.ours.level, one.ours.name), []).append(one)
    body = []
    for (level, _), members in groups.items():
        known = [one for one in members if one.differences]
        if known:
            figures = [_points(average(known, figure)) for figure in MARGINS]
            missed = f"{sum(bool(one.missed) for one in known)}"
            body.append([level, members[0].ours.markdown_name, *figures, f"{len(known)} of {len(members)}", missed])
    if not body:
        return ""
    head = ["bias", "row", *(_NAMES[figure] for figure in MARGINS), "datasets", "missed"]
    return "**Average of these differences**, with its 95 % interval over the datasets:\n\n" + lined_up(head, body)


def _points(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "–"
    bounds = difference["ci95"]
    return f"{100 * difference['mean']:+.1f}" + (
        f" ({100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f})" if bounds else ""
    )


def _costs(table: Sequence[Row], unit: str) -> str:
    """Of each method, the mean over the datasets."""
    groups: dict[str, list[Row]] = {}
    for row in (row for row in table if row.values):
        groups.setdefault(row.name, []).append(row)
    if not groups:
        return ""
    body = [
        [rows[0].markdown_name, f"{np.mean([r.images for r in rows]):,.0f}", f"{_hours(rows):.3f}"]
        for rows in groups.values()
    ]
    title = "**Cost** of one repetition, mean over datasets and levels:\n\n"
    return title + lined_up(["method", "images made", unit], body)


def _hours(rows: Sequence[Row]) -> float:
    return float(np.mean([row.seconds for row in rows])) / 3600

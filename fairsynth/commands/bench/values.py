"""Bench: all figures for programs, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from fairsynth.commands.bench.rows import Row

_COLUMNS = ("method", "variant", "severity", "repetitions", "seeds", "worst_group", "worst_group_n", "images", "hours")
# Behind the figures, so that no column changes its place.
_LAST_COLUMNS = ("dataset", "validation", "failed")


def to_csv(table: Sequence[Row]) -> str:
    """A line for each dataset, method and severity, every figure with the bounds of its interval."""
    figures = list(dict.fromkeys(figure for row in table for figure in row.values))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"{f}{end}" for f in figures for end in ("", "_low", "_high")), *_LAST_COLUMNS])
    for row in table:
        known = row.values.get("accuracy", ())
        cells: list[Any] = [row.method, row.variant, row.severity, len(known), len(known[0]) if known else 0]
        cells += [row.worst_group, row.worst_group_n, row.images, round(row.seconds / 3600, 5)]
        for figure in figures:
            mean = row.mean(figure) if figure in row.values else None
            interval = row.interval(figure) if mean is not None else None
            cells += [mean, *(interval or (None, None))]
        cells += [row.dataset, row.validation, "; ".join(dict.fromkeys(row.failed.values()))]
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
            "dataset": row.dataset,
            "validation": row.validation,
            "repetitions": list(row.repetitions),
            "failed": [{"repetition": number, "reason": reason} for number, reason in row.failed.items()],
        }
        for row in table
    ]


def _entry(row: Row, figure: str) -> dict[str, Any]:
    mean, interval = row.mean(figure), row.interval(figure)
    values = None if mean is None else row.values[figure]
    return {"mean": mean, "ci95": list(interval) if interval else None, "values": values}

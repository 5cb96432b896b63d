"""Bench: worst-group accuracy against severity, a line for each method, a panel for each dataset, as a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairsynth.commands.bench.rows import Row
from fairsynth.escaping import printable

_FIGURE = "worst_group_accuracy"
_ACROSS = 3
# Colours that people with any colour vision tell apart (Okabe and Ito, then Tol).
_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000"),
    *("#882255", "#117733", "#AA4499", "#DDCC77"),
)


def draw(table: Sequence[Row], target: Path) -> None:
    """Write the curve: mean of each row, its interval as a bar. Datasets and kinds of validation have a panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = [row for row in table if row.mean(_FIGURE) is not None]
    panels = list(dict.fromkeys((row.dataset, row.validation) for row in known)) or [("", "given")]
    names = list(dict.fromkeys(row.name for row in known))
    across, several = min(len(panels), _ACROSS), len(panels) > 1
    down = math.ceil(len(panels) / across)
    size = (3.6 * across, 3.4 * down) if several else (9, 5.2)
    figure, axes = pyplot.subplots(down, across, figsize=size, dpi=120, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _panel(axis, [row for row in known if (row.dataset, row.validation) == panel], names)
        if several:
            axis.set_title(_title(*panel), fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("worst-group accuracy, % (95 % interval)")
    lines = _lines(list(axes.flat))
    if lines:
        beside = figure if several else axes[0, 0]
        handles, labels = list(lines.values()), list(lines)
        beside.legend(handles, labels, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(target, format="png", bbox_inches="tight" if several else None)
    pyplot.close(figure)


def _panel(axis: Any, table: Sequence[Row], names: Sequence[str]) -> None:
    """The lines of one dataset. Rows are shifted so that none hides another."""
    severities = list(dict.fromkeys(row.severity for row in table))
    for number, name in enumerate(names):
        points = [row for row in table if row.name == name]
        if not points:
            continue
        ours = points[0].method == "fairsynth"
        shift = (number - (len(names) - 1) / 2) * 0.5 / len(names)
        places = [severities.index(row.severity) + shift for row in points]
        means = [100 * (row.mean(_FIGURE) or 0.0) for row in points]
        bounds = [row.interval(_FIGURE) for row in points]
        below = [max(0.0, m - 100 * b.low) if b else 0.0 for m, b in zip(means, bounds, strict=True)]
        above = [max(0.0, 100 * b.high - m) if b else 0.0 for m, b in zip(means, bounds, strict=True)]
        axis.errorbar(
            places,
            means,
            yerr=[below, above],
            label=_plain(name),
            color=_COLOURS[number % len(_COLOURS)],
            marker="o" if ours else "s",
            linestyle="-" if ours else "--",
            linewidth=2.2 if ours else 1.2,
            elinewidth=0.8,
            capsize=2,
        )
    axis.set_xticks(range(len(severities)), severities)
    axis.set_xlabel("bias of the training images")
    axis.set_ylim(0, 100)
    axis.grid(axis="y", alpha=0.3)


def _lines(axes: Sequence[Any]) -> dict[str, Any]:
    """What the legend shows: each line once, whichever panels have it."""
    lines: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        lines |= dict(zip(labels, handles, strict=True))
    return lines


def _title(dataset: str, validation: str) -> str:
    parts = [dataset] if dataset else []
    return _plain(printable(", ".join([*parts, *([] if validation == "given" else [f"{validation} validation"])])))


def _plain(name: str) -> str:
    """No mathematics: a dollar sign in a name is a dollar sign."""
    return name.replace("$", r"\$")

"""Bench: worst-group accuracy against severity, a line for each method, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairsynth.commands.bench.table import Row

_FIGURE = "worst_group_accuracy"
# Colours that people with any colour vision tell apart (Okabe and Ito, then Tol).
_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000"),
    *("#882255", "#117733", "#AA4499", "#DDCC77"),
)


def draw(table: Sequence[Row], target: Path) -> None:
    """Write the curve: mean of each row, its interval as a bar. Rows are shifted so that none hides another."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    severities = list(dict.fromkeys(row.severity for row in table))
    names = list(dict.fromkeys(row.name for row in table))
    figure, axes = pyplot.subplots(figsize=(9, 5.2), dpi=120)
    for number, name in enumerate(names):
        points = [row for row in table if row.name == name and row.mean(_FIGURE) is not None]
        ours = any(row.method == "fairsynth" for row in points)
        shift = (number - (len(names) - 1) / 2) * 0.5 / max(1, len(names))
        places = [severities.index(row.severity) + shift for row in points]
        means = [100 * (row.mean(_FIGURE) or 0.0) for row in points]
        bounds = [row.interval(_FIGURE) for row in points]
        below = [max(0.0, m - 100 * b.low) if b else 0.0 for m, b in zip(means, bounds, strict=True)]
        above = [max(0.0, 100 * b.high - m) if b else 0.0 for m, b in zip(means, bounds, strict=True)]
        axes.errorbar(
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
    axes.set_xticks(range(len(severities)), severities)
    axes.set_xlabel("bias of the training images")
    axes.set_ylabel("worst-group accuracy, % (95 % interval)")
    axes.set_ylim(0, 100)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(target, format="png")
    pyplot.close(figure)


def _plain(name: str) -> str:
    """No mathematics: a dollar sign in a name is a dollar sign."""
    return name.replace("$", r"\$")

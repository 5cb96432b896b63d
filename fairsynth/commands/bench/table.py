"""Bench: the table for people, of one dataset, and what tables of several are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairsynth.commands.bench.published import SOURCE, Published
from fairsynth.commands.bench.rows import Row
from fairsynth.escaping import plain

FIGURE_TITLES = {"worst_group_accuracy": "Worst-group accuracy", "accuracy": "Accuracy (mean over images)"}
# What a line or a column of a grid stands for: as it is, and for a table's cell.
Axis = Callable[[Row], tuple[str, str]]


def by_method(row: Row) -> tuple[str, str]:
    """Of each method, and variant, one."""
    return row.name, row.markdown_name


def by_level(row: Row) -> tuple[str, str]:
    """Of each severity, and kind of validation, one."""
    return row.level, row.level


def by_dataset(row: Row) -> tuple[str, str]:
    """Of each dataset one."""
    return row.dataset, plain(row.dataset)


def markdown(table: Sequence[Row], published: Sequence[Published] = (), unit: str = "worker-hours") -> str:
    """One dataset's worst-group accuracy by method and severity; accuracy and cost beside it; figures of others apart."""
    lines = [
        grid(table, f"**{title}**, mean and 95 % interval over {over(table)}:", figure, ("method", by_method), by_level)
        + "\n"
        for figure, title in FIGURE_TITLES.items()
    ]
    lines += [_costs(table, unit)]
    if published:
        levels = list(dict.fromkeys(p.severity for p in published))
        cells = {(p.method, p.severity): f"{p.worst_group_accuracy:.1f} / {p.average:.1f}" for p in published}
        names = list(dict.fromkeys(p.method for p in published))
        body = [[name, *(cells.get((name, level), "") for level in levels)] for name in names]
        lines += ["", f"**Published by others, not measured here** ({SOURCE}), worst group / average, %:", ""]
        lines += [lined_up(["method", *levels], body)]
    lines += ["", wrong] if (wrong := failures(table)) else []
    return "\n".join(lines) + "\n"


def grid(table: Sequence[Row], title: str, figure: str, down: tuple[str, Axis], across: Axis) -> str:
    """A figure of all rows as a Markdown table; ``down`` with its heading."""
    corner, line = down
    columns = dict(across(row) for row in table)
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in table:
        lines.setdefault(line(row), {})[across(row)[0]] = share(row, figure)
    body = [[shown, *(cells.get(key, "") for key in columns)] for (_, shown), cells in lines.items()]
    return f"{title}\n\n" + lined_up([corner, *columns.values()], body)


def over(table: Sequence[Row]) -> str:
    """What the rows' intervals are over."""
    known = [row.values["accuracy"] for row in table if row.values]
    if not known:
        return "nothing: all failed"
    repetitions = max(map(len, known))
    seeds = max(len(values) for row in known for values in row)
    return f"{repetitions} repetitions of {seeds} training seeds" if repetitions > 1 else f"{seeds} training seeds"


def share(row: Row, figure: str) -> str:
    """A figure in percent with its interval, or why there is none."""
    mean, interval = row.mean(figure), row.interval(figure)
    if row.failed and not row.values:
        return "failed"
    if mean is None:
        return "–"
    text = f"{mean * 100:.1f}" + (f" ({interval.low * 100:.1f} – {interval.high * 100:.1f})" if interval else "")
    return text + (f", {len(row.failed)} failed" if row.failed else "")


def _costs(table: Sequence[Row], unit: str) -> str:
    last = {row.name: row for row in table if row.values}
    body = [
        [row.markdown_name, row.level, f"{row.images:,}" if row.images else "0", f"{row.seconds / 3600:.3f}"]
        for row in last.values()
    ]
    return "**Cost** of one repetition at the last severity:\n\n" + lined_up(
        ["method", "bias", "images made", unit], body
    )


def failures(table: Sequence[Row]) -> str:
    """What failed and why, the methods of a cell together; empty if nothing did."""
    methods: dict[tuple[str, ...], list[str]] = {}
    for row in table:
        for repetition, reason in row.failed.items():
            place = (plain(row.dataset), row.level, str(repetition), f"failed: {plain(reason)}")
            methods.setdefault(place, []).append(row.markdown_name)
    if not methods:
        return ""
    # The config's own dataset has no name to show.
    shown = 0 if any(row.dataset for row in table) else 1
    body = [[*place, ", ".join(names), why][shown:] for (*place, why), names in methods.items()]
    head = ["dataset", "bias", "repetition", "methods", "reason"][shown:]
    return "**Failed**, for a reason of the data; the other figures are without these:\n\n" + lined_up(head, body)


def lined_up(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    made = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in made)

"""Stage 8, report: report.json (schema 1) and a page for people."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from fairsynth.config import ANY_IMAGE
from fairsynth.data.decode import decode
from fairsynth.groups import MethodScores, mean_interval
from fairsynth.printing import printable
from fairsynth.stages.methods import TITLES

VERSION = 2


def method_entry(method: MethodScores) -> dict[str, Any]:
    """A method's part of report.json."""
    entry: dict[str, Any] = {"name": method.name, "seeds": list(method.seeds)}
    for figure in ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior"):
        values = method.values(figure)
        # The training prior is undefined where no test group has training images; JSON knows no NaN.
        defined = all(math.isfinite(value) for value in values)
        interval = mean_interval(values) if defined else None
        entry[figure] = {
            "mean": float(np.mean(values)) if defined else None,
            "ci95": list(interval) if interval else None,
            "per_seed": values if defined else None,
        }
    group, n = method.worst_group()
    entry["worst_group"] = {"label": group.label, "attribute": group.attribute, "n": n}
    entry["groups"] = [
        {"label": g.label, "attribute": g.attribute, "n": n, "accuracy": accuracy}
        for g, n, accuracy in method.pooled_groups()
    ]
    return entry


def table_lines(report: Mapping[str, Any]) -> list[str]:
    """The table that the command line prints."""
    lines = [f"{'method':<12} {'worst-group accuracy (95 % interval)':<38} {'mean accuracy':<14} worst group (n)"]
    for method in report["methods"]:
        wga, group = method["worst_group_accuracy"], method["worst_group"]
        interval = f"({wga['ci95'][0]:.1%} - {wga['ci95'][1]:.1%})" if wga["ci95"] else "(one seed)"
        name = TITLES.get(method["name"], method["name"])
        worst = f"{printable(group['label'])}, {printable(group['attribute'])} ({group['n']})"
        lines.append(f"{name:<12} {wga['mean']:>6.1%} {interval:<31} {method['accuracy']['mean']:>8.1%}       {worst}")
    return lines


def sheet(files: Sequence[bytes], columns: int = 12, side: int = 64) -> str:
    """Image files as one PNG grid, a data URI; empty for no files."""
    if not files:
        return ""
    grid = Image.new("RGB", (columns * side, -(-len(files) // columns) * side), "white")
    for i, content in enumerate(files):
        tile = Image.fromarray(decode(content, rules=ANY_IMAGE)).resize(
            (side - 2, side - 2), Image.Resampling.NEAREST if side > 32 else Image.Resampling.BICUBIC
        )
        grid.paste(tile, ((i % columns) * side, i // columns * side))
    buffer = io.BytesIO()
    grid.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def page(report: Mapping[str, Any], grids: Sequence[Mapping[str, Any]]) -> str:
    """The HTML page. All text from data is escaped; nothing is loaded from elsewhere, no scripts."""
    environment = Environment(loader=PackageLoader("fairsynth", "stages"), autoescape=True)
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return environment.get_template("report.html").render(report=report, grids=grids, titles=TITLES)

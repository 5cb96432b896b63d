"""The parts of report.json (schema 1) and a page for people."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from fairsynth.classify.methods import TITLES
from fairsynth.classify.policies import Policy, in_words
from fairsynth.config import ANY_IMAGE
from fairsynth.data.decode import decode
from fairsynth.escaping import printable
from fairsynth.metrics import MethodScores, mean_interval, wilson
from fairsynth.verdict import compared


def method_entry(
    method: MethodScores, more: Mapping[str, Sequence[float | None]] | None = None, ours: MethodScores | None = None
) -> dict[str, Any]:
    """A method's part of report.json.

    ``more``: further figures, a value per seed. ``ours``: the method that it is compared with, seed by seed.
    """
    entry: dict[str, Any] = {"name": method.name, "seeds": list(method.seeds)}
    for figure in ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior"):
        entry[figure] = _over_seeds(method.values(figure))
    for figure, values in (more or {}).items():
        entry[figure] = _over_seeds(values)
    group, n = method.worst_group()
    entry["worst_group"] = {"label": group.label, "attribute": group.attribute, "n": n}
    entry["groups"] = [
        {"label": g.label, "attribute": g.attribute, "n": n, "accuracy": accuracy, "ci95": _wilson(accuracy, n)}
        for g, n, accuracy in method.pooled_groups()
    ]
    if ours is not None and ours.name != method.name and ours.seeds == method.seeds:
        entry["fairsynth_minus_this"] = compared([ours], [method])
    return entry


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    # The training prior is undefined where no test group has training images; JSON knows no NaN.
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return {"mean": None, "ci95": None, "per_seed": None}
    interval = mean_interval(known)
    return {"mean": float(np.mean(known)), "ci95": list(interval) if interval else None, "per_seed": known}


def _wilson(accuracy: float | None, n: int) -> list[float] | None:
    """The interval that the number of test images allows; seeds share the images, so they do not count as more."""
    return None if accuracy is None else list(wilson(round(accuracy * n), n))


def table_lines(report: Mapping[str, Any]) -> list[str]:
    """The table that the command line prints."""
    lines = [f"{'method':<12} {'worst-group accuracy (95 % over seeds)':<38} {'mean accuracy':<14} worst group (n)"]
    for method in report["methods"]:
        wga, group = method["worst_group_accuracy"], method["worst_group"]
        interval = f"({wga['ci95'][0]:.1%} - {wga['ci95'][1]:.1%})" if wga["ci95"] else "(one seed)"
        name = TITLES.get(method["name"], method["name"])
        worst = f"{printable(group['label'])}, {printable(group['attribute'])} ({group['n']})"
        lines.append(f"{name:<12} {wga['mean']:>6.1%} {interval:<31} {method['accuracy']['mean']:>8.1%}       {worst}")
    return lines


def verdict_line(report: Mapping[str, Any]) -> str:
    """The verdict and what stands in its way, for the command line."""
    why = report["verdict_why"]
    return f"verdict: {report['verdict']}" + (f" ({printable(why)})" if why else "")


def use_lines(report: Mapping[str, Any]) -> list[str]:
    """Whether synthetic images were made and used, and what would help, for the command line."""
    use = report["synthetic_images"]
    return [printable(use["line"]), *(f"  {printable(line)}" for line in use["would_help"])]


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
    return embedded(buffer.getvalue())


def embedded(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def page(report: Mapping[str, Any], grids: Sequence[Mapping[str, Any]], search: str = "") -> str:
    """The HTML page. All text from data is escaped; nothing is loaded from elsewhere, no scripts."""
    environment = Environment(loader=PackageLoader("fairsynth.stages", "report"), autoescape=True)
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    setting = report["settings"].get("fairsynth")
    policy = in_words(Policy(**{part: setting[part] for part in Policy._fields if part in setting})) if setting else ""
    page = environment.get_template("report.html")
    return page.render(report=report, grids=grids, titles=TITLES, search=search, policy=policy)

"""report.html: one file for people who were not there. Nothing is loaded from elsewhere, and there are no scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from fairsynth.classify.policies import Policy, in_words
from fairsynth.escaping import legible
from fairsynth.stages.report import audit_tables, tables, words
from fairsynth.stages.report.first_screen import points
from fairsynth.stages.report.pictures import plots
from fairsynth.stages.report.pictures.shown import Shown

PARTS = {
    "checks": "Checks",
    "data": "Data",
    "accuracy": "Accuracy",
    "images": "Images",
    "map": "Embedding map",
    "fidelity": "Fidelity",
    "privacy": "Privacy",
    "search": "Search",
    "severity": "Severity",
    "cost": "Time and cost",
    "provenance": "Provenance",
    "limits": "Limits",
}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("fairsynth.stages.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_legible,
    )
    found.filters |= {"percent": tables.percent, "points": points}
    # The style sheet is the package's own text; as a part of the page it must not be escaped.
    found.globals["style"] = Markup(found.get_template("style.css").render())  # noqa: S704
    return found


def _legible(value: Any) -> Any:
    """What is put into the page, before it is escaped; markup is the package's own, and was put together in the same way."""
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def page(report: Mapping[str, Any], shown: Shown | None = None) -> str:
    """The HTML page. All text from data is escaped."""
    shown = shown or Shown()
    groups = plots.group_lanes(report["methods"])
    setting = report["settings"].get("fairsynth")
    policy = in_words(Policy(**{part: setting[part] for part in Policy._fields if part in setting})) if setting else ""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            shown=shown,
            parts={key: title for key, title in PARTS.items() if key != "severity" or shown.curves},
            policy=policy,
            tables=tables,
            audits=audit_tables,
            words=words,
            lanes=plots.method_lanes(report["methods"]),
            mean_lanes=plots.method_lanes(report["methods"], "accuracy"),
            groups=[group for group in groups if group.n],
            empty=[group for group in groups if not group.n],
            in_sight=plots.IN_SIGHT,
            config=json.dumps(report.get("config", {}), indent=1, ensure_ascii=False),
        )
    )

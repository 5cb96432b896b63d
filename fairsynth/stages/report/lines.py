"""What the command line prints of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.classify.methods import TITLES
from fairsynth.escaping import printable


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

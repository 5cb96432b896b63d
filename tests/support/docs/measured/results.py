"""Result files, and their values as pages write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

from tests.support.docs.pages import ROOT

Json = Mapping[str, Any]


@cache
def result(name: str) -> Json:
    """The content of ``benchmarks/results/NAME.json``."""
    content: Json = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    return content


def percent(value: float, digits: int = 1) -> str:
    """A share: 12.3 %."""
    return f"{100 * value:.{digits}f} %"


def bare(value: float, digits: int = 1, sign: str = "") -> str:
    """A share without its sign: 12.3, or +12.3."""
    return f"{100 * value:{sign}.{digits}f}"


def around(figure: Json, digits: int = 1) -> str:
    """Mean and interval of a share: 12.3 (10.0 – 14.6)."""
    low, high = figure["ci95"]
    return f"{bare(figure['mean'], digits)} ({bare(low, digits)} – {bare(high, digits)})"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range: 1.2 (1.0 – 1.4); of one value that alone."""
    around = f" ({min(values):.{digits}f} – {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{median(values):.{digits}f}{around}"


def times(values: Sequence[float], of: Sequence[float]) -> float:
    """How many times one median is the other."""
    return median(values) / median(of)


def row(*cells: str) -> str:
    """A row of a table."""
    return " ".join(f"| {' | '.join(cells)} |".split())

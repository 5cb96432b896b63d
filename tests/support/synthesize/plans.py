"""Sources of three groups, and the rows and units of their plan."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fairsynth.groups import Group
from fairsynth.stages.synthesize.image_plan import Source, plan_images

A, B, C = Group("low", "building"), Group("low", "flower"), Group("high", "flower")
SOURCES = {
    A: [
        Source("own", "low--building--0", 0, "sks low", 30, "blur", 6.0),
        Source("own", "low--building--1", 1, "ohwx low", 10, "blur", 6.0),
    ],
    B: [Source("prompt", None, 0, "low", 1)],
    C: [Source("own", "high--flower--0", 0, "sks high", 7)],
}


def plan(needed: dict[Group, int], seed: int = 0, index: int = 0, size: int = 4, **options: Any) -> list[dict]:
    """The rows of a plan with the sources above, or others."""
    sources = options.pop("sources", SOURCES)
    return plan_images(needed, sources, seed, index, size, **options).to_pylist()


def of_units(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of every unit, in order."""
    units: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        units[row["unit"]].append(row)
    return units


def own(group: Group, count: int, **options: Any) -> list[Source]:
    """Adapters of a group, of equal weight."""
    return [Source("own", f"{group.slug}--{i}", i, f"sks {i}", 1, **options) for i in range(count)]

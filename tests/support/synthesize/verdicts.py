"""Made images as rows of the stage, and the verdicts on them."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from fairsynth.config import FilterConfig
from fairsynth.groups import Group
from fairsynth.stages.synthesize.selection import (
    verdicts,
)

A, B, C = Group("low", "building"), Group("low", "flower"), Group("high", "flower")
ALL = FilterConfig(keep=1.0)


def image(group: Group, name: str, score: float = 0.5, **facts: Any) -> dict[str, Any]:
    """An image that nothing is wrong with, unlike any other, except for the given facts."""
    rng = random.Random(f"{group}{name}")
    return {
        "image_id": name,
        "label": group.label,
        "attribute": group.attribute,
        "text_score": score,
        "centroid_score": score,
        "constant": False,
        "label_probability": 0.9,
        "attribute_probability": 0.9,
        "copy_score": None,
        "sha256": f"sha {group}{name}",
        "phash": rng.randbytes(8),
        "look": rng.randbytes(192),
    } | facts


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Images as the filter takes them."""
    types = {"copy_score": pa.float64(), "constant": pa.bool_(), "phash": pa.binary(8), "look": pa.binary(192)}
    names = list(image(A, ""))
    return pa.table({n: pa.array([row[n] for row in rows], types.get(n)) for n in names})


def images(group: Group, values: list[float], **facts: Any) -> list[dict[str, Any]]:
    """Images of a group, with these scores, and ids in order."""
    return [image(group, f"{group.label[0]}{group.attribute[0]}{i:03d}", s, **facts) for i, s in enumerate(values)]


def verdicts_of(
    rows: list[dict[str, Any]], quota: dict[Group, int], config: FilterConfig = ALL, threshold: float | None = None
) -> dict[str, str]:
    """The verdict of every image, by its id."""
    found = verdicts(table(rows), quota, config, threshold)
    return dict(zip([row["image_id"] for row in rows], found.to_pylist(), strict=True))


def accepted(found: dict[str, str]) -> list[str]:
    """Ids of the accepted images."""
    return sorted(name for name, verdict in found.items() if verdict == "accepted")

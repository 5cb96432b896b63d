"""A method's part of report.json: its figures over the seeds, and its groups with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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

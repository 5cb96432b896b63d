"""What is tracked of tune: the trials of each method."""

from __future__ import annotations

import json
import math
from typing import Any

from fairsynth.artifacts import Artifact
from fairsynth.tracking.curves import Curve

_FIGURES = ("worst_group_accuracy", "worst_class_accuracy", "accuracy", "epochs", "seconds")


def curves(artifact: Artifact) -> list[Curve]:
    """A curve for every method: its trials' figures on validation images, by the trial's number, and its numeric settings."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for trial in json.loads((artifact.path / "trials.json").read_text("utf-8")):
        trials.setdefault(trial["method"], []).append(trial)
    chosen = artifact.record["settings"]
    return [
        Curve(method, _points(some), {key: str(value) for key, value in chosen.get(method, {}).items()})
        for method, some in sorted(trials.items())
    ]


def _points(trials: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for trial in sorted(trials, key=lambda trial: trial["number"]):
        values = {f"trial/{figure}": trial[figure] for figure in _FIGURES}
        values |= {f"setting/{name}": value for name, value in trial["setting"].items()}
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((trial["number"], float(value)))
    return points

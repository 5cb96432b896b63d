"""What tune leaves: the chosen setting of each method, and its trials as a table and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fairsynth.artifacts import Artifact
from fairsynth.tracking.curves import Curve

TRIALS, PICTURE = "trials.csv", "search.png"
_FIGURES = ("worst_group_accuracy", "worst_class_accuracy", "accuracy", "epochs", "seconds")


def chosen_settings(artifact: Artifact) -> dict[str, Mapping[str, float | str]]:
    """The setting of every method."""
    settings: dict[str, Mapping[str, float | str]] = artifact.record["settings"]
    return settings


def search_note(artifact: Artifact) -> str:
    """Why the trials' validation figures do not compare methods; empty where they do."""
    return str(artifact.record["note"])


def compared_policies(artifact: Artifact) -> list[dict[str, Any]]:
    """The policies of fairsynth that were compared by validation images that they had not seen, with their figures."""
    policies: list[dict[str, Any]] = artifact.record["policies"]
    return policies


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

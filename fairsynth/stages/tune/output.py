"""What tune leaves: the chosen setting of each method, and its trials as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.artifacts import Artifact

TRIALS, PICTURE = "trials.csv", "search.png"


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

"""What tune leaves: the chosen setting of each method, and its trials as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping

from fairsynth.artifacts import Artifact

TRIALS, PICTURE = "trials.csv", "search.png"


def chosen_settings(artifact: Artifact) -> dict[str, Mapping[str, float | str]]:
    """The setting of every method."""
    settings: dict[str, Mapping[str, float | str]] = artifact.record["settings"]
    return settings

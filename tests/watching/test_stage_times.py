"""The line of a finished stage and its record say the same seconds, and the line says what else took time."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.pipeline import _tell
from fairsynth.stages.stage import Done
from tests.watching.leftovers import finish


@pytest.mark.parametrize(("seconds", "told"), [(4.3, "(4.1 s)"), (18.12, "(4.1 s; 18.1 s with its preparation)")])
def test_a_stages_seconds_are_those_of_its_record(tmp_path: Path, seconds: float, told: str) -> None:
    said: list[str] = []
    artifact = finish(tmp_path, "ingest", seconds=4.1)
    _tell(said.append, "ingest", Done(artifact, "500 images", cached=False), seconds)
    assert said == [f"ingest     500 images {told}"]

"""The finished stages that a run's report was written from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth.artifacts import finished_records
from fairsynth.errors import DataError
from fairsynth.store.view import finished_here


@dataclass(frozen=True)
class FinishedStage:
    """A stage's folder, and its record ``artifact.json``."""

    path: Path
    record: dict[str, Any]


def finished_stage(root: Path, name: str) -> FinishedStage:
    """The stage that the report in an output folder is of: other configs may have left results there, too.

    Raises DataError if it is not there any more.
    """
    report = (root / "report.json").read_bytes()
    for told in _records(root, "report"):
        published = finished_here(told.path, told.record) / "report.json"
        if published.is_file() and published.read_bytes() == report:
            wanted = told.record["inputs"].get(name)
            for stage in _records(root, name):
                if (stage.record["digest"] or stage.record["fingerprint"]) == wanted:
                    finished_here(stage.path, stage.record)
                    return stage
    raise DataError(
        f"{root / 'stages'} lacks what stage {name} left for this report; run 'fairsynth run' with the same options again"
    )


def _records(root: Path, name: str) -> list[FinishedStage]:
    return [FinishedStage(path, record) for path, record in finished_records(root, name)]

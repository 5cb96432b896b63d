"""Gauges stay for as long as the command lives: Ray drops those that are not set for about a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.engine import progress as module
from fairsynth.engine.progress import watched
from tests.engine.test_progress import until

Set = list[tuple[str, float, dict[str, str] | None]]


@pytest.fixture
def was_set(monkeypatch: pytest.MonkeyPatch) -> Set:
    """What Ray is told, by a Ray that is connected."""
    import ray
    import ray.util.metrics

    told: Set = []

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str] | None) -> None:
            told.append((self.name, value, tags))

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.util.metrics, "Gauge", Gauge)
    monkeypatch.setattr(module, "LOOK", 0.02)
    return told


def test_gauges_of_finished_stages_are_set_again_and_again(tmp_path: Path, was_set: Set) -> None:
    with watched(tmp_path) as progress:
        with progress.stage("embed") as finished, progress.work("embed", 3, 0, 1) as work:
            work.set_done(3)
            finished("embed-1", {"counts": {"used": 40}}, False)
        was_set.clear()
        with progress.stage("tune"):
            until(lambda: was_set.count(("fairsynth_units_done", 3, {"stage": "embed"})) >= 3)
            assert was_set.count(("fairsynth_images", 40, {"stage": "embed", "outcome": "used"})) >= 2


def test_stages_that_were_found_finished_before_ray_was_there_are_told_once_it_is(
    tmp_path: Path, was_set: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    image = ("fairsynth_images", 40, {"stage": "ingest", "outcome": "used"})
    with watched(tmp_path) as progress:
        with monkeypatch.context() as patch:
            patch.setattr(ray, "is_initialized", lambda: False)
            progress.found("ingest", "ingest-1", {"counts": {"used": 40}})
            assert was_set == []
        with progress.stage("embed"):
            until(lambda: image in was_set)

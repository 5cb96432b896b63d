"""The report is made anew when what it shows changes, and only then; people are blurred by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import changed, load_config
from fairsynth.groups import Group
from fairsynth.stages.context import opened
from fairsynth.stages.report.step import BENCH, artifact
from tests.support.report.finished_stages import World, finished

GROUPS = [Group("ja", "a"), Group("nein", "a")]


@pytest.mark.parametrize(
    ("preset", "faces"), [("celeba", "blurred"), ("utkface", "blurred"), ("waterbirds", "shown"), ("demo", "shown")]
)
def test_people_are_blurred_by_default(preset: str, faces: str) -> None:
    assert load_config(preset=preset).report.faces == faces
    assert RunConfig().report.faces == "shown"


def test_a_report_is_named_by_how_it_shows_pictures_and_by_the_bench_beside_it(tmp_path: Path) -> None:
    inputs, _ = finished(tmp_path, World(GROUPS))

    def name(config: RunConfig) -> str:
        with opened(config) as context:
            context.artifacts.update(inputs.artifacts)
            return artifact(context).fingerprint

    config = changed(inputs.config, {"out": str(tmp_path)})
    plain = name(config)
    assert plain == name(changed(config, {"resources.workers": 3}))
    hidden = name(changed(config, {"report.faces": "hidden"}))
    (tmp_path / BENCH).parent.mkdir()
    (tmp_path / BENCH).write_text('{"rows": []}')
    assert len({plain, hidden, name(config)}) == 3

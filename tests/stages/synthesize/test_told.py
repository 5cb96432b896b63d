"""Texts of a stage: one worker encodes them, all others read them, and images are the same to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Units
from fairsynth.config import ModelsConfig
from fairsynth.models import diffusion
from fairsynth.models.diffusion import load_text_encoder
from fairsynth.models.sources import demo_folder
from fairsynth.stages.finetune.output import TEXTS_UNIT
from fairsynth.stages.synthesize.decisions import all_texts
from fairsynth.stages.synthesize.generate import GenerateUnit
from fairsynth.stages.synthesize.told import EncodedTexts, known_texts, told_first
from fairsynth.work import Ran, Work, run_local, write_tables
from tests.support.synthesize.worlds import MODELS, PNG, SAMPLING, SOURCES, World, plan, units, world

__all__ = ["world"]
POSSIBLE = {group: {"own": sources[:1], "other": sources[1:]} for group, sources in SOURCES.items()}
TEXTS = sorted({text for some in SOURCES.values() for one in some for text in (one.prompt, one.negative_prompt)})


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> ModelsConfig:
    """The demo's model in a folder of its own, as anybody's is."""
    folder = tmp_path_factory.mktemp("base") / "diffusion"
    shutil.copytree(demo_folder("diffusion"), folder)
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=32)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for every time that text encoders were loaded."""
    found = list[int]()
    monkeypatch.setattr(diffusion, "load_text_encoder", lambda models: found.append(1) or load_text_encoder(models))
    return found


def work_of(world: World, models: ModelsConfig, path: Path) -> Callable[[], Work]:
    return partial(GenerateUnit, models, SAMPLING, path, world.adapters, world.references, PNG)


def files(folder: Path, names: list[str]) -> list[bytes]:
    made = Units(folder / "units")
    return [file for name in names for file in pq.read_table(made[name] / "images.parquet")["file"].to_pylist()]


def test_texts_are_encoded_once_for_all_rounds_and_images_are_the_same(
    world: World, own: ModelsConfig, loads: list[int], tmp_path: Path
) -> None:
    first, second = tmp_path / "one", tmp_path / "other"
    first.mkdir(), second.mkdir()
    path = plan(first, 4)
    names, made = units(path), Units(first / "units")
    run = told_first(partial(run_local, made), made, own, TEXTS)
    assert run(names[:2], work_of(world, own, path)).made == 2 and loads == [1]
    ran = run(names, work_of(world, own, path))
    assert (ran.made, ran.cached) == (len(names) - 2, 2) and loads == [1]
    assert made.done() == {TEXTS_UNIT, *names}
    # As before there was such a unit: every worker encodes for itself.
    other = plan(second, 4)
    run_local(Units(second / "units"), names, work_of(world, own, other))
    assert loads == [1, 1] and files(first, names) == files(second, names)


def test_what_the_unit_lacks_the_worker_encodes(
    world: World, own: ModelsConfig, loads: list[int], tmp_path: Path
) -> None:
    path, made = plan(tmp_path, 100), Units(tmp_path / "units")
    tables = EncodedTexts(own, TEXTS[:2])({"name": TEXTS_UNIT})
    made.commit(TEXTS_UNIT, partial(write_tables, tables))
    assert loads == [1] and known_texts(made, TEXTS).keys() == {*TEXTS[:2]}
    worker = work_of(world, own, path)()
    assert loads == [1, 1] and pa.Table.equals(
        worker({"name": units(path)[0]})["images"].select(["sha256"]),
        world.worker(path=path)({"name": units(path)[0]})["images"].select(["sha256"]),
    )


def test_no_worker_starts_for_a_model_in_the_package_or_where_nothing_is_left(
    own: ModelsConfig, tmp_path: Path
) -> None:
    asked, made = list[list[str]](), Units(tmp_path / "units")

    def run(names: list[str], make: object) -> Ran:
        asked.append(list(names))
        return Ran(len(names), 0, 2.0)

    assert told_first(run, made, MODELS, TEXTS) is run and told_first(run, made, own, []) is run
    made.commit("r0", lambda folder: None)
    told_first(run, made, own, TEXTS)(["r0"], lambda: None)
    assert asked == [["r0"]], "a run that was stopped before its last round ended"
    ran = told_first(run, made, own, TEXTS)(["r0", "r1"], lambda: None)
    assert asked[1:] == [[TEXTS_UNIT], ["r0", "r1"]] and ran == Ran(2, 0, 4.0)


def test_all_routes_have_their_texts() -> None:
    assert all_texts(POSSIBLE) == TEXTS and known_texts(Units(Path("none")), TEXTS) == {}

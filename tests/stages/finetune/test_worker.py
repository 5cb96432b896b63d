"""The worker of a lot in this process, without Ray: what it commits, and when it leaves checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairsynth.artifacts import Artifact, Identity, Units
from fairsynth.config import ResourcesConfig, RunConfig
from fairsynth.engine.session import Room, Session, Worker
from fairsynth.errors import ConfigError
from fairsynth.models.adapters import FILE_NAME, read_provenance
from fairsynth.models.data_parallel import Ranks
from fairsynth.models.diffusion import load_denoiser
from fairsynth.stages.context import Context
from fairsynth.stages.finetune import lot_state, step, step_files, worker
from fairsynth.stages.finetune.jobs import AdapterJob, Kinds
from fairsynth.stages.finetune.latents import LatentFiles
from fairsynth.stages.finetune.lot_state import LotState, Trained, save_state
from fairsynth.stages.finetune.output import TEXTS_UNIT, is_adapter
from fairsynth.stages.finetune.prompt_embeddings import read_texts
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from fairsynth.stages.finetune.worker import LotTask, reached, train_lot
from tests.support.lots import same_bits
from tests.support.many_clusters import CONFIG, embeddings, many_jobs, models

JOBS = tuple(replace(job, steps=8 + i) for i, job in enumerate(many_jobs()[:3]))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As workers have: bits depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def task(tmp_path: Path) -> LotTask:
    prompts = tuple(sorted({prompt for job in JOBS for prompt in (job.prompt, job.class_prompt)}))
    (tmp_path / "stage").mkdir()
    return LotTask(JOBS, prompts, models(tmp_path), CONFIG, tmp_path / "stage", tuple(embeddings(tmp_path)), {})


def test_a_lot_is_trained_without_ray_as_by_the_trainer_alone(task: LotTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # any import of it would fail
    train_lot(task, Ranks(), lambda: False)
    units = Units(task.stage / "units")
    assert {name for name in units.done() if is_adapter(name)} == {job.name for job in JOBS}
    denoiser = load_denoiser(task.models)
    trained = list[Trained]()
    texts, latents = read_texts(units[TEXTS_UNIT]), LatentFiles(list(task.embeddings), {})
    StackedTrainer(denoiser, CONFIG, texts, latents).train(list(JOBS), trained.append)
    for one in trained:
        found = load_file(units[one.job.name] / FILE_NAME)
        assert one.weights and same_bits({k.removeprefix("unet."): v for k, v in found.items()}, one.weights)
    assert not list((task.stage / "checkpoints").iterdir())


def test_a_machine_that_goes_has_its_checkpoint_out_of_turn_once(
    task: LotTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = list[int]()

    def saving(state: LotState, path: Path) -> None:
        save_state(state, path)
        saved.append(state.steps)

    monkeypatch.setattr(lot_state, "save_state", saving)
    monkeypatch.setattr(worker, "_NOTICE_EVERY", 0.01)
    long = tuple(replace(job, steps=60) for job in JOBS)
    seldom = replace(task, jobs=long, config=CONFIG.model_copy(update={"checkpoint_every": 1000}))
    train_lot(seldom, Ranks(), lambda: True)
    assert saved[0] == 0 and len(saved) == 2 and 0 < saved[1] < 60, "the start, and one more when the notice came"


def test_adapters_that_end_together_are_seen_on_their_way(task: LotTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_files, "EVERY", 0.0)
    names, seen = {job.name for job in JOBS}, list[float]()

    def look(state: LotState, path: Path) -> None:
        seen.append(reached(task.stage, names))

    monkeypatch.setattr(lot_state, "save_state", look)
    train_lot(replace(task, config=CONFIG.model_copy(update={"checkpoint_every": 2})), Ranks(), lambda: False)
    assert seen[0] == 0 and seen[1] == pytest.approx(sum(2 / job.steps for job in JOBS), abs=0.001)
    assert seen[:4] == sorted({*seen[:4]}) and reached(task.stage, names) == len(JOBS)


def test_a_config_that_fits_no_layer_is_told_before_any_step(task: LotTask) -> None:
    odd = replace(task, config=CONFIG.model_copy(update={"target_modules": ("to_x",)}))
    with pytest.raises(ConfigError, match=r"no layer's name ends with one of 'to_x'"):
        train_lot(odd, Ranks(), lambda: False)
    assert {name for name in Units(task.stage / "units").done() if is_adapter(name)} == set()


def test_a_lot_is_trained_on_a_rounded_base_and_its_files_say_so(task: LotTask) -> None:
    train_lot(replace(task, config=CONFIG.model_copy(update={"frozen_weights": "int8"})), Ranks(), lambda: False)
    rounded, other = Units(task.stage / "units"), replace(task, stage=task.stage.with_name("whole"))
    train_lot(other, Ranks(), lambda: False)
    for job in JOBS:
        files = [units[job.name] / FILE_NAME for units in (rounded, Units(other.stage / "units"))]
        assert [read_provenance(file).get("frozen_weights") for file in files] == ["int8", None]
        assert not same_bits(*(load_file(file) for file in files))


def test_the_adapter_of_all_groups_trains_beside_the_others_on_half_of_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(jobs: Sequence[AdapterJob], shared: AdapterJob | None, **resources: Any) -> tuple[list[LotTask], Room]:
        found: list[Any] = []

        def look(session: Session, stage: str, work: Mapping[str, Any], storage: Path, room: Room, *more: Any) -> Any:
            found.extend([[one.args[0] for one in work.values()], room])
            return iter([time.time()] * len(work))

        monkeypatch.setattr("fairsynth.stages.context.run_jobs", look)
        whole = RunConfig(models=models(tmp_path), finetune=CONFIG, resources=ResourcesConfig(**resources))
        artifact = Artifact(tmp_path, Identity("finetune", 1, {}, {}))
        step.train_adapters(Context(whole, tmp_path, Session(whole.resources)), artifact, jobs, [], {}, shared)
        return found[0], found[1]

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(Session, "connect", lambda self: None)
    monkeypatch.setattr(Session, "worker", lambda self: Worker(8, 1.0, 0.0, 1))
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8}}])
    everyone = replace(JOBS[0], kinds=Kinds((JOBS[0].prompt,), (0,) * len(JOBS[0].image_ids), 0.1))
    (first, lot), room = given(JOBS, everyone)
    assert (first.jobs, first.threads, first.lanes, first.side_by_side) == ((everyone,), 4, 1, 2)
    assert (len(lot.jobs), lot.threads, lot.lanes, lot.side_by_side) == (3, 1, 3, 2)
    assert room.side_by_side == 2 and room.worker.cpus == 4, "both have room on eight cores"
    (only,), room = given([], everyone)
    assert (only.threads, only.side_by_side, room.side_by_side) == (8, 1, 1)
    (lot,), room = given(JOBS, None)
    assert (lot.lanes, lot.side_by_side, room.side_by_side, room.worker.cpus) == (3, 1, 1, 3)
    # On workers of a number that was asked for they are lots like others.
    tasks, room = given(JOBS, everyone, workers=8)
    assert {(task.threads, task.lanes) for task in tasks} == {(1, 1)} and room.worker.cpus == 1

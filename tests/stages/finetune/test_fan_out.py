"""Lots on Ray Train: what they commit is what a plain loop makes, whatever was there before and whatever fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import FinetuneConfig, ModelsConfig, ResourcesConfig, RunConfig
from fairsynth.engine import train
from fairsynth.engine.session import Room, Session, Worker, session_of
from fairsynth.errors import ConfigError, FairsynthError, InfrastructureError
from fairsynth.models.adapters import FILE_NAME, FULL_FILE_NAME
from fairsynth.models.data_parallel import Ranks
from fairsynth.models.diffusion import load_denoiser
from fairsynth.stages.context import Context
from fairsynth.stages.finetune import lot_state, step
from fairsynth.stages.finetune.full_training import FullTrainer
from fairsynth.stages.finetune.jobs import AdapterJob, lot_name, lots
from fairsynth.stages.finetune.latents import LatentFiles
from fairsynth.stages.finetune.lot_state import LotState, Trained, save_state
from fairsynth.stages.finetune.output import ADAPTER_FILE, TEXTS_UNIT, read_adapter
from fairsynth.stages.finetune.prompt_embeddings import read_texts
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from fairsynth.stages.finetune.worker import LotTask, train_lot
from fairsynth.store.seals import SEAL
from fairsynth.work import Ran
from tests.support.lots import difference, same_bits
from tests.support.many_clusters import CONFIG, embeddings, many_jobs, models

# 12 to 16 steps. Both lanes of one run, and the lots of two workers, are adapters 4, 2, 0 and 3, 1.
JOBS = [replace(job, steps=12 + i) for i, job in enumerate(many_jobs()[:5])]
FIRST, SECOND = lots(JOBS, 2)
FULL = CONFIG.model_copy(update={"parameters": "full", "batch_size": 2, "prior_batch_size": 2})
# Relative, where weights are not the same to the last bit.
ROUNDING = 1e-6
Alone = dict[str, Mapping[str, torch.Tensor]]
NewStage = Callable[[], "Stage"]


class Stage:
    """The folder of a stage finetune, and what it is trained from."""

    def __init__(self, folder: Path, models: ModelsConfig, files: Sequence[Path]) -> None:
        self.models, self.files = models, files
        self.artifact = Artifact(folder, Identity("finetune", 1, {}, {}))
        self.units, self.checkpoints = self.artifact.units(), self.artifact.open() / "checkpoints"

    def train(self, jobs: Sequence[AdapterJob] = JOBS, config: FinetuneConfig = CONFIG, **resources: Any) -> Ran:
        """Train what is not there yet."""
        whole = RunConfig(models=self.models, finetune=config, resources=ResourcesConfig(**resources))
        context = Context(whole, self.artifact.path, Session(whole.resources))
        return step.train_adapters(context, self.artifact, jobs, self.files, {})

    def weights(self, job: AdapterJob) -> Mapping[str, torch.Tensor]:
        """What was committed, by peft's names."""
        return {k.removeprefix("unet."): v for k, v in load_file(self.units[job.name] / FILE_NAME).items()}

    def stamps(self) -> dict[str, int]:
        """When each adapter was committed."""
        return {name: self.units[name].stat().st_mtime_ns for name in self.units.done() - {TEXTS_UNIT}}


@pytest.fixture(scope="module")
def new_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStage]:
    """Makes stages that are trained from the same files, on a Ray of this machine."""
    folder, threads = tmp_path_factory.mktemp("from"), torch.get_num_threads()
    sources = models(folder), embeddings(folder)
    # As many as the workers have: bits depend on it.
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, session_of(ResourcesConfig()) as session:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr("os.cpu_count", lambda: 2)
        session.connect()
        yield lambda: Stage(tmp_path_factory.mktemp("stage"), *sources)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stacked(new_stage: NewStage) -> Stage:
    """Five adapters, trained in one run of Ray Train."""
    stage = new_stage()
    assert stage.train().made == 5
    return stage


@pytest.fixture(scope="module")
def alone(stacked: Stage) -> Alone:
    """What a plain loop makes of the same adapters."""
    denoiser = load_denoiser(stacked.models)
    texts, found = read_texts(stacked.units[TEXTS_UNIT]), list[Trained]()
    for lot in (FIRST, SECOND):
        StackedTrainer(denoiser, CONFIG, texts, LatentFiles(stacked.files, {})).train(lot, found.append)
    return {trained.job.name: trained.weights for trained in found if trained.weights}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let lots train in this process, without Ray and one after another; how many adapters were in each of their steps."""
    plain, passes = StackedTrainer.step_gradient, list[int]()

    def counted(self: StackedTrainer, stack: Any, weights: Any, draws: Any, texts: Any) -> Any:
        passes.append(len(draws))
        return plain(self, stack, weights, draws, texts)

    def in_turn(
        session: Session, stage: str, jobs: Mapping[str, train.Job], *more: Any
    ) -> Iterator[float | FairsynthError]:
        for job in jobs.values():
            try:
                job(Ranks(), lambda: False)
            except FairsynthError as error:
                yield error
            else:
                yield time.time()

    monkeypatch.setattr(StackedTrainer, "step_gradient", counted)
    monkeypatch.setattr("fairsynth.stages.context.run_jobs", in_turn)
    return passes


def test_only_where_there_are_no_gpus_one_run_has_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(adapters: int, gpus: float = 0.0, **resources: Any) -> tuple[Worker, int]:
        monkeypatch.setattr(Session, "worker", lambda self: Worker(8, 1.0, gpus, 2))
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8, "GPU": 8}}])
        room = Session(ResourcesConfig(**resources)).room(1, "resources.workers_per_cluster", lanes=adapters)
        assert room == Room(room.worker, 1, room.lanes, room.worker.count)
        return room.worker, room.lanes

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert found(3) == (Worker(1, 3.0, 0.0, 2), 3)
    assert found(100) == (Worker(1, 8.0, 0.0, 2), 8)
    assert found(3, workers=8) == (Worker(8, 1.0, 0.0, 2), 1)
    assert found(3, gpus=1.0) == (Worker(8, 1.0, 1.0, 2), 1)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert found(3) == (Worker(8, 1.0, 0.0, 2), 1)


def test_two_workers_make_the_unet_that_one_makes(new_stage: NewStage) -> None:
    stage, work = new_stage(), JOBS[:2]
    assert stage.train(work, FULL, workers=2, workers_per_cluster=2).made == 2
    denoiser = load_denoiser(stage.models)
    base, latents = (
        {name: value.clone() for name, value in denoiser.network.state_dict().items()},
        LatentFiles(stage.files, {}),
    )
    trainer = FullTrainer(denoiser, FULL, read_texts(stage.units[TEXTS_UNIT]))
    for job in work:
        folder = stage.units[job.name]
        assert {path.name for path in folder.iterdir()} == {"config.json", FULL_FILE_NAME, ADAPTER_FILE, SEAL}
        found, expected = load_file(folder / FULL_FILE_NAME), trainer.train(job, latents(job))
        assert difference(found, expected.weights) <= 1e-5
        assert difference(found, base) > 1e-2, "what has not moved proves nothing"
        assert read_adapter(folder)["steps"] == job.steps and not read_adapter(folder)["failed"]
        assert same_bits(UNet2DConditionModel.from_pretrained(folder).state_dict(), found)
    assert not list(stage.checkpoints.iterdir())


def test_adapters_are_those_of_a_plain_loop(stacked: Stage, alone: Alone) -> None:
    for job in JOBS:
        assert same_bits(stacked.weights(job), alone[job.name]), job.name
        facts = read_adapter(stacked.units[job.name])
        assert (facts["steps"], facts["failed"], facts["seed"]) == (job.steps, "", job.seed)
    assert not list(stacked.checkpoints.iterdir())


def test_what_is_there_is_not_made_again(stacked: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Session, "connect")
    monkeypatch.delattr(train, "_trainer")
    before = stacked.stamps()
    assert stacked.train() == Ran(0, 5, 0.0)
    assert stacked.stamps() == before


def test_only_gaps_are_filled(new_stage: NewStage, stacked: Stage, alone: Alone, here: list[int]) -> None:
    stage, gone = new_stage(), [JOBS[0], JOBS[3]]
    left_out = shutil.ignore_patterns(*(job.name for job in gone))
    shutil.copytree(stacked.units.path, stage.units.path, ignore=left_out)
    before = stage.stamps()
    ran = stage.train()
    assert (ran.made, ran.cached) == (2, 3)
    assert sum(here) == sum(job.steps for job in gone)
    assert before.items() <= stage.stamps().items()
    # Other adapters are in the pass with them than before, so the sums are rounded otherwise.
    assert all(difference(stage.weights(job), alone[job.name]) <= ROUNDING for job in gone)


def interrupted(stage: Stage, at: int) -> Path:
    """Train, but for the first lane, which is stopped at this step; its checkpoint."""
    left = stage.checkpoints / f"{lot_name(FIRST)}.safetensors"

    def stopping(state: LotState, path: Path) -> None:
        save_state(state, path)
        if path == left and state.steps == at:
            raise FairsynthError("no more")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FairsynthError, match="no more"):
        patch.setattr(lot_state, "save_state", stopping)
        stage.train()
    assert left.exists() and stage.units.done() >= {job.name for job in SECOND}, "the other lane went on"
    return left


# Fault case 48: a worker is killed in training.
@pytest.mark.parametrize(
    ("at", "resources", "steps"),
    [(7, {}, 9 + 7 + 5), (14, {}, 2), (14, {"workers": 3, "adapters_per_run": 2}, 2)],
    ids=["none has ended", "two have ended", "other lots"],
)
def test_an_interrupted_lot_goes_on_from_its_checkpoint(
    at: int, resources: Any, steps: int, new_stage: NewStage, alone: Alone, here: list[int]
) -> None:
    left = interrupted(stage := new_stage(), at)
    here.clear()
    stage.train(**resources)
    assert sum(here) == steps, "none that it had done before"
    assert all(same_bits(stage.weights(job), alone[job.name]) for job in JOBS)
    assert resources or not left.exists()


def test_what_other_lots_had_begun_survives_another_stop(new_stage: NewStage, alone: Alone, here: list[int]) -> None:
    interrupted(stage := new_stage(), 7)

    def stopping(state: LotState, path: Path) -> None:
        save_state(state, path)
        raise FairsynthError("no more")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FairsynthError, match="no more"):
        patch.setattr(lot_state, "save_state", stopping)
        stage.train(workers=3, adapters_per_run=2)
    here.clear()
    stage.train(workers=3, adapters_per_run=2)
    assert sum(here) == 9 + 7 + 5, "none that was done before"
    assert all(difference(stage.weights(job), alone[job.name]) <= ROUNDING for job in JOBS)


def test_so_many_workers_as_there_never_are_is_an_error(new_stage: NewStage) -> None:
    with pytest.raises(
        InfrastructureError,
        match=r"999 workers that train together .* have room for 4; lower resources\.workers_per_cluster",
    ):
        new_stage().train(JOBS[:1], FULL.model_copy(update={"batch_size": 999}), workers_per_cluster=999)


def test_a_lost_adapter_is_made_again_despite_a_checkpoint(new_stage: NewStage, alone: Alone, here: list[int]) -> None:
    left = interrupted(stage := new_stage(), 14)
    shutil.rmtree(stage.units[JOBS[2].name])
    here.clear()
    assert (stage.train().made, sum(here)) == (2, JOBS[2].steps + 2), (
        "the other goes on from the checkpoint all the same"
    )
    assert all(difference(stage.weights(job), alone[job.name]) <= ROUNDING for job in JOBS)
    assert not left.exists()


def test_an_adapter_that_explodes_fails_alone_and_says_why(new_stage: NewStage, alone: Alone, here: list[int]) -> None:
    stage, wild = new_stage(), replace(JOBS[2], learning_rate=1e12)
    ran = stage.train([*JOBS[:2], wild, *JOBS[3:]])
    assert (ran.made, ran.cached) == (5, 0)
    assert {path.name for path in stage.units[wild.name].iterdir()} == {ADAPTER_FILE, SEAL}
    why = read_adapter(stage.units[wild.name])["failed"]
    assert "learning rate 1e+12; again loss" in why and "\n" not in why
    assert all(difference(stage.weights(job), alone[job.name]) <= ROUNDING for job in (*JOBS[:2], *JOBS[3:]))
    assert stage.train() == Ran(0, 5, 0.0), "a failure is a result"


def test_a_lot_that_fails_says_why_and_the_others_are_kept(new_stage: NewStage, alone: Alone, here: list[int]) -> None:
    def second_in_vain(task: LotTask, *place: Any) -> None:
        odd = {"target_modules": ("to_x",)} if task.name == lot_name(SECOND) else {}
        train_lot(replace(task, config=task.config.model_copy(update=odd)), *place)

    stage = new_stage()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError) as caught:
        patch.setattr(step, "train_lot", second_in_vain)
        stage.train(workers=2)
    assert str(caught.value) == (
        "stage finetune failed in 1 of 2 lots: finetune.target_modules: no layer's name ends with one of 'to_x'"
    )
    assert stage.stamps().keys() == {job.name for job in FIRST}
    assert stage.train(workers=2).made == 2
    assert all(same_bits(stage.weights(job), alone[job.name]) for job in JOBS)

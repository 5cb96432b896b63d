"""A worker's part of a lot: load, train, commit each adapter as it ends, leave checkpoints.

The durable state is files: an adapter's unit, and its lot's checkpoint beside the units. A killed worker loses at most
one checkpoint interval of the adapters in training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairsynth.artifacts import Units
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.stages.finetune.jobs import AdapterJob, Compiling, lot_name
from fairsynth.stages.finetune.output import TEXTS_UNIT
from fairsynth.stages.finetune.step_files import StepFile, under_way
from fairsynth.store.mirror import gone

if TYPE_CHECKING:
    import torch

    from fairsynth.models.data_parallel import Ranks
    from fairsynth.stages.finetune.lot_state import Trained

# Seconds between looks for a notice that the machine will be taken away; it comes at least half a minute ahead.
_NOTICE_EVERY = 1.0


@dataclass(frozen=True)
class LotTask:
    """The task of a lot's workers: plain values, and files that every node can read."""

    jobs: tuple[AdapterJob, ...]
    prompts: tuple[str, ...]
    """Of all jobs, those of other lots too: whichever lot comes first embeds them."""
    models: ModelsConfig
    config: FinetuneConfig
    stage: Path
    """Folder of the stage's artifact: units and checkpoints lie in it."""
    embeddings: tuple[Path, ...]
    class_units: Mapping[str, str]
    """Name of the unit with the latents of each class prompt."""
    threads: int = 1
    gpus: float = 0.0
    lanes: int = 1
    """Adapters train in threads side by side, one thread a lane."""
    side_by_side: int = 1
    """Lots that share a machine without GPUs."""
    at_once: int | None = None
    """Adapters that train at a time; None: as many as memory holds."""
    compiling: Compiling | None = None
    """How the network is compiled on a GPU; None: it is not."""

    @property
    def name(self) -> str:
        """Name of the lot."""
        return lot_name(self.jobs)


def train_lot(task: LotTask, ranks: Ranks, machine_goes: Callable[[], bool]) -> None:
    """Train what is left of a lot, as one of several workers (``ranks``), or alone.

    ``machine_goes`` says whether this machine is about to be taken away: then checkpoints are written out of turn.
    Raises FairsynthError for failures that no second attempt mends.
    """
    _LotWorker(task, ranks, machine_goes).run()


def reached(stage: Path, names: AbstractSet[str]) -> float:
    """How many of a stage's adapters are done, those in training by the share of their steps."""
    finished = Units(stage / "units").done_lately().intersection(names)
    return len(finished) + under_way(stage / "checkpoints", names - finished)


class _LotWorker:
    """One worker's part of a lot."""

    def __init__(self, task: LotTask, ranks: Ranks, machine_goes: Callable[[], bool]) -> None:
        from fairsynth.models.diffusion import load_denoiser
        from fairsynth.stages.finetune.latents import LatentFiles

        self.task, self.ranks, self.machine_goes = task, ranks, machine_goes
        self.config, self.models = task.config, task.models
        self.units, self.checkpoints = Units(task.stage / "units"), task.stage / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.texts = self._texts(task.prompts)
        self.denoiser = load_denoiser(self.models, self.config.frozen_weights)
        class_files = {prompt: self.units[name] / "latents.parquet" for prompt, name in task.class_units.items()}
        self.latents = LatentFiles(list(task.embeddings), class_files, self._prior_facts())

    def run(self) -> None:
        """Train what is left of the lot."""
        if self.config.parameters == "full":
            self._full()
        else:
            self._stacked()

    def _stacked(self) -> None:
        """Train the lot in lanes, a thread each: side by side in one process they share its start and the base."""
        jobs, notice, warned = self.task.jobs, _Notice(self.machine_goes), Event()
        count = min(self.task.lanes, len(jobs))
        lanes = [jobs[i::count] for i in range(count)]
        with ThreadPoolExecutor(count) as pool:
            running = {pool.submit(self._lane, lane, warned.is_set) for lane in lanes}
            errors = list[BaseException]()
            while running:
                ended, running = wait(running, _NOTICE_EVERY, FIRST_EXCEPTION)
                # As with lots: where one fails, the others still finish.
                errors += [error for lane in ended if (error := lane.exception()) is not None]
                if running and notice():
                    warned.set()
        if errors:
            raise errors[0]

    def _lane(self, jobs: Sequence[AdapterJob], notice: Callable[[], bool]) -> None:
        import torch

        from fairsynth.models.stacked import shell
        from fairsynth.stages.finetune.lot_state import adopted, load_state, save_state
        from fairsynth.stages.finetune.stacked_training import StackedTrainer, compiled_for

        task = self.task
        torch.set_num_threads(task.threads)
        one = self.denoiser
        denoiser = one if task.lanes == 1 else one.by(shell(one.network))
        part = min(1.0, task.gpus or 1 / (task.side_by_side * task.lanes))
        compiled, rows = compiled_for(denoiser.network, task.compiling)
        trainer = StackedTrainer(denoiser, self.config, self.texts, self.latents, task.at_once, part, compiled, rows)
        path = self._checkpoint(jobs)
        steps, state = StepFile(path), load_state(path)
        if state is None or not self.units.done().issuperset(state.ended):
            # Other lots may have finished adapters of this one; or their units have been removed since.
            state, jobs = None, [job for job in jobs if not self.units.has(job.name)]
        else:
            jobs = [job for job in jobs if job.name in state.names]
        # Lots that were cut otherwise may have begun the adapters that wait here.
        waiting = {job.name for job in jobs} if state is None else set(state.waiting)
        begun = adopted(self.checkpoints, waiting)
        trainer.train(jobs, self._commit, state, begun, partial(save_state, path=path), notice, steps)
        gone(path)
        steps.remove()

    def _checkpoint(self, jobs: Sequence[AdapterJob]) -> Path:
        return self.checkpoints / f"{lot_name(jobs)}.safetensors"

    def _full(self) -> None:
        from fairsynth.stages.finetune.full_training import FullTrainer, load_full, save_full

        trainer = FullTrainer(self.denoiser, self.config, self.texts, self.ranks)
        for job in self.task.jobs:
            path, first = self._checkpoint([job]), self.ranks.first
            # Rank 0 alone looks: on a shared disk the others may see an older state.
            if trainer.agreed(first and self.units.has(job.name)):
                continue
            state, save = (load_full(path), partial(save_full, path=path)) if first else (None, None)
            steps, notice = StepFile(path), _Notice(self.machine_goes, every=0)
            told = steps if first else lambda shares: None
            trained = trainer.train(job, self.latents(job), state, save, notice, told)
            if first:
                self._commit(trained)
                gone(path)
                steps.remove()

    def _commit(self, trained: Trained) -> None:
        from fairsynth.stages.finetune.adapter_files import save_trained

        write = partial(save_trained, trained, self.config, self.models, self.denoiser)
        self.units.commit(trained.job.name, write)

    def _prior_facts(self) -> dict[str, NDArray[np.float32]]:
        """What the network is told of a class image besides its text."""
        size = self.models.image_size
        return self.denoiser.family.image_facts(np.array([[size, size]]), size)

    def _texts(self, prompts: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
        """All prompts' embeddings, made by whichever lot comes first."""
        from fairsynth.stages.finetune.prompt_embeddings import read_texts, write_texts

        if not self.units.has(TEXTS_UNIT):
            self.units.commit(TEXTS_UNIT, partial(write_texts, self.models, prompts))
        return read_texts(self.units[TEXTS_UNIT])


class _Notice:
    """Whether this worker's machine is about to be taken away. Asking costs a message, so it asks at intervals.

    Data-parallel workers must ask equally often, for they answer jointly: ``every`` 0 asks each time.
    """

    def __init__(self, machine_goes: Callable[[], bool], every: float = _NOTICE_EVERY) -> None:
        self.machine_goes, self.every, self.next = machine_goes, every, time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + self.every
        return self.machine_goes()

"""What a worker of Ray Train does with a lot: load, train, commit each adapter as it ends, leave checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from fairsynth.artifacts import Artifact, Units
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.engine.failures import packed
from fairsynth.engine.session import Worker
from fairsynth.engine.together import share_of_worker
from fairsynth.errors import FairsynthError
from fairsynth.groups import Group
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.plan import lot_name

if TYPE_CHECKING:
    import torch

    from fairsynth.stages.finetune.lot_state import Trained

# Seconds between looks for a notice that the machine will be taken away; it comes half a minute or more before.
_NOTICE_EVERY = 1.0


def loop_of(
    lot: Sequence[AdapterJob],
    jobs: Sequence[AdapterJob],
    models: ModelsConfig,
    config: FinetuneConfig,
    artifact: Artifact,
    embeddings: Sequence[Path],
    class_units: Mapping[str, str],
    worker: Worker,
    resources: Mapping[str, int | None],
) -> dict[str, Any]:
    """What the workers of a lot are told, as plain values; ``resources`` are taken over as they are."""
    return {
        "name": lot_name(lot),
        "jobs": [{**asdict(job), "group": list(job.group), "image_ids": list(job.image_ids)} for job in lot],
        "prompts": sorted({prompt for job in jobs for prompt in (job.prompt, job.class_prompt)}),
        "models": models.model_dump(),
        "config": config.model_dump(),
        "stage": str(artifact.path),
        "embeddings": [str(path) for path in embeddings],
        "class_units": dict(class_units),
        "threads": worker.threads,
        "gpus": worker.gpus,
        **resources,
    }


def train_lot(loop: Mapping[str, Any]) -> dict[str, Any]:
    """The training function of a Ray Train worker; what the work raises on purpose is returned: no retry mends it."""
    import torch

    torch.set_num_threads(loop["threads"])
    began = time.time()
    try:
        _Work(loop).run()
    except FairsynthError as error:
        return {"began": began, "failure": packed(error)}
    return {"began": began, "failure": ""}


class _Work:
    """One worker's part of a lot."""

    def __init__(self, loop: Mapping[str, Any]) -> None:
        from fairsynth.models.diffusion import load_unet
        from fairsynth.stages.finetune.latents import LatentFiles

        self.loop, self.stage = loop, Path(loop["stage"])
        self.config = FinetuneConfig.model_validate(loop["config"])
        self.models = ModelsConfig.model_validate(loop["models"])
        self.units, self.checkpoints = Units(self.stage / "units"), self.stage / "checkpoints"
        self.checkpoints.mkdir(exist_ok=True)
        self.jobs = [_unpacked(job) for job in loop["jobs"]]
        self.texts = self._texts(loop["prompts"])
        self.unet, self.scheduler = load_unet(self.models)
        class_files = {prompt: self.units[name] / "latents.parquet" for prompt, name in loop["class_units"].items()}
        self.latents = LatentFiles([Path(path) for path in loop["embeddings"]], class_files)

    def run(self) -> None:
        """Train what is left of the lot."""
        if self.config.parameters == "full":
            self._full()
        else:
            self._stacked()

    def _stacked(self) -> None:
        """Train the lot in lanes, a thread each: side by side in one process they share its start and the base."""
        count = min(self.loop["lanes"], len(self.jobs))
        lanes, notice, warned = [self.jobs[i::count] for i in range(count)], _Notice(), Event()
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
        from fairsynth.stages.finetune.stacked_training import StackedTrainer

        torch.set_num_threads(self.loop["threads"])
        unet = self.unet if self.loop["lanes"] == 1 else shell(self.unet)
        share = self.loop["gpus"] or 1 / (self.loop["side_by_side"] * self.loop["lanes"])
        trainer = StackedTrainer(
            unet, self.scheduler, self.config, self.texts, self.latents, self.loop["at_once"], min(1.0, share)
        )
        path = self._checkpoint(jobs)
        state = load_state(path)
        if state is None or not self.units.done().issuperset(state.ended):
            # Adapters may be done by lots that were cut otherwise; or have ended, but someone took them away.
            state, jobs = None, [job for job in jobs if not self.units[job.name].exists()]
        else:
            jobs = [job for job in jobs if job.name in state.names]
        # Those that are not in training here may be begun by lots that were cut otherwise.
        waiting = {job.name for job in jobs} if state is None else set(state.waiting)
        begun = adopted(self.checkpoints, waiting)
        trainer.train(jobs, self._commit, state, begun, partial(save_state, path=path), notice)
        path.unlink(missing_ok=True)

    def _checkpoint(self, jobs: Sequence[AdapterJob]) -> Path:
        return self.checkpoints / f"{lot_name(jobs)}.safetensors"

    def _full(self) -> None:
        from fairsynth.stages.finetune.full_training import FullTrainer, load_full, save_full

        share = share_of_worker()
        trainer = FullTrainer(self.unet, self.scheduler, self.config, self.texts, share)
        for job in self.jobs:
            path, first = self._checkpoint([job]), share.rank == 0
            # Rank 0 alone looks: on a shared disk the others may see what was there before.
            if trainer.agreed(first and self.units[job.name].exists()):
                continue
            state, save = (load_full(path), partial(save_full, path=path)) if first else (None, None)
            trained = trainer.train(job, self.latents(job), state, save, _Notice(every=0))
            if first:
                self._commit(trained)
                path.unlink(missing_ok=True)

    def _commit(self, trained: Trained) -> None:
        from fairsynth.stages.finetune.adapter_files import save_trained

        write = partial(save_trained, trained, self.config, self.models, self.unet)
        self.units.commit(trained.job.name, write)

    def _texts(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """All prompts' embeddings, made by whichever lot comes first."""
        from fairsynth.stages.finetune.prompt_embeddings import UNIT, read_texts, write_texts

        if not self.units[UNIT].exists():
            self.units.commit(UNIT, partial(write_texts, self.models, prompts))
        return read_texts(self.units[UNIT])


def _unpacked(job: Mapping[str, Any]) -> AdapterJob:
    return AdapterJob(**{**job, "group": Group(*job["group"]), "image_ids": tuple(job["image_ids"])})


class _Notice:
    """Whether this worker's machine is about to be taken away. Asking costs a message, so it is asked now and then.

    Workers that train together must ask equally often, for they answer together: ``every`` 0 asks each time.
    """

    def __init__(self, every: float = _NOTICE_EVERY) -> None:
        self.every, self.next = every, time.monotonic()

    def __call__(self) -> bool:
        import ray.train

        if time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + self.every
        return ray.train.get_preemption_info() is not None

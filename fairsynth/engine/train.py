"""Runs jobs on Ray Train: each on workers of its own, a bounded number of jobs side by side.

Only the jobs' own files are durable, never Ray's: a job that starts again resumes from them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from fairsynth.engine.each_node import require_shared
from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.lifetime import processes
from fairsynth.engine.lifetime.beats import Beats
from fairsynth.engine.lifetime.hangs import replaced
from fairsynth.engine.progress import Work
from fairsynth.engine.session import Room, Session
from fairsynth.errors import FairsynthError, InfrastructureError
from fairsynth.exhausted import is_final
from fairsynth.store.arrow import storage_of

if TYPE_CHECKING:  # it imports torch, which work without models does without
    from fairsynth.models.data_parallel import Ranks

Job = Callable[["Ranks", Callable[[], bool]], None]
"""The work of each of a job's workers: gets its place among them, and a way to ask whether its machine will be taken
away. The first worker commits the result. Ray retries after an InfrastructureError, a dead worker or a lost node; any
other FairsynthError is final."""
# Seconds between looks at the jobs' progress.
_LOOK = 5.0


class Tally(NamedTuple):
    """Pieces of work of all jobs, and how many of them are done by now; parts of pieces count as such."""

    total: int
    done: Callable[[], float]


def run_jobs(
    session: Session,
    stage: str,
    jobs: Mapping[str, Job],
    storage: Path,
    room: Room,
    tally: Tally | None = None,
) -> Iterator[float | FairsynthError]:
    """Run all jobs; for each that ends, yields when its first worker began (seconds of ``time.time``), or its failure.

    The caller decides what a failure means: jobs start only while it asks for more. Job names
    become names of folders: no text from the data. Raises BudgetReached while jobs are still at work.
    """
    require_shared(session, storage.parent)
    total, done = tally or Tally(len(jobs), lambda: 0)
    hang = replaced(stage, session.resources.hang_seconds, session.progress.root)
    with hang, session.progress.work(stage, total, done(), 1, done) as work:
        yield from _run_jobs(session, stage, jobs, storage, room, work)


def _run_jobs(
    session: Session, stage: str, jobs: Mapping[str, Job], storage: Path, room: Room, work: Work
) -> Iterator[float | FairsynthError]:
    waiting, running = list(jobs.items()), 0
    results: Queue[float | FairsynthError] = Queue()

    def fit(name: str, job: Job) -> None:
        results.put(_fit(stage, partial(_trainer, session, stage, name, job, storage, room)))

    while waiting or running:
        while waiting and running < room.side_by_side:
            # Daemons: an interrupted run does not wait for its jobs.
            Thread(target=fit, args=waiting.pop(0), daemon=True).start()
            running += 1
        work.spend()
        work.workers = running * room.workers * room.lanes
        try:
            ended = results.get(timeout=_LOOK)
        except Empty:
            ended = None
        running -= ended is not None
        session.jobs_left = running > 0
        work.look()
        if ended is not None:
            yield ended


def _fit(stage: str, trainer: Callable[[], Any]) -> float | FairsynthError:
    try:
        returned = trainer().fit().return_value
        return unpacked(stage, returned["failure"]) if returned["failure"] else float(returned["began"])
    except Exception as error:
        return translated(stage, error)


def _trainer(session: Session, stage: str, name: str, job: Job, storage: Path, room: Room) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from fairsynth.engine.retries import JobRetries

    worker = room.worker
    resources = {"CPU": worker.cpus} | ({"GPU": worker.gpus} if worker.gpus else {})
    options = {
        "train_loop_config": {
            "job": job,
            "threads": worker.threads,
            "name": name,
            "beats": Beats(stage, session.resources.hang_seconds),
        },
        "scaling_config": ScalingConfig(
            num_workers=room.workers, use_gpu=worker.gpus > 0, resources_per_worker=resources
        ),
        "run_config": RunConfig(
            # A fresh name each time: a Train state file that a kill cut in half must not stop the next attempt.
            name=f"{name}-{uuid.uuid4().hex[:12]}",
            **storage_of(storage),
            failure_config=FailureConfig(max_failures=session.resources.max_failures),
            callbacks=[JobRetries(session.progress.root, stage, name)] if session.progress.root else None,
        ),
    }
    if room.workers == 1:
        # One worker needs no process group, and its controller no torch, which takes seconds to import.
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        return _fitting(DataParallelTrainer)(_run, **options)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "nccl" if worker.gpus >= 1 else "gloo"
    return _fitting(TorchTrainer)(_run, torch_config=TorchConfig(backend=backend), **options)


def _fitting(trainer: Any) -> Any:
    """A class of trainers; on a Ray of this process's own without what frees the machines of a job whose controller has been killed.

    Such a Ray ends with its driver. That part asks the dashboard, which is off there, and keeps each job's end waiting
    for the answer, for twelve seconds.
    """
    if not processes.started():
        return trainer
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    class Local(trainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            there = super()._create_default_callbacks()
            return [one for one in there if not isinstance(one, PlacementGroupCleanerCallback)]

    return Local


def _run(config: Mapping[str, Any]) -> dict[str, Any]:
    """One worker of a job."""
    import torch

    torch.set_num_threads(config["threads"])
    began, ranks, beats = time.time(), _ranks_of_worker(), config["beats"]
    try:
        with beats.at_work(config["name"]):
            config["job"](ranks, _machine_goes)
    except Exception as error:
        # Of several workers the others may be waiting for this one: Ray ends them where it tries again.
        final = ranks.world == 1 and is_final(error)
        if not final and (isinstance(error, InfrastructureError) or not isinstance(error, FairsynthError)):
            raise  # Ray tries again
        if not ranks.first:
            raise  # only the first worker's answer is read, and it may be waiting for this one
        return {"began": began, "failure": packed(error)}
    return {"began": began, "failure": ""}


def _machine_goes() -> bool:
    """Whether this worker's machine is about to be taken away. Asking costs a message."""
    import ray.train

    return ray.train.get_preemption_info() is not None


def _ranks_of_worker() -> Ranks:
    """This worker's place among those of its Ray Train run."""
    import ray.train

    from fairsynth.models.data_parallel import Ranks

    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Ranks()
    return Ranks(context.get_world_rank(), context.get_world_size(), _summed)


def _summed(values: Any) -> None:
    """All workers' sum, in place. CPU tensors go by way of the GPU where messages do."""
    import torch

    if torch.distributed.get_backend() == "nccl" and not values.is_cuda:
        moved = values.cuda()
        torch.distributed.all_reduce(moved)
        values.copy_(moved)
    else:
        torch.distributed.all_reduce(values)

"""Trains one classifier after another, each on several workers of a Ray Train run, data parallel."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.session import Session

if TYPE_CHECKING:  # it imports torch, which work without models does without
    from fairsynth.models.data_parallel import Share

Job = Callable[["Share"], None]
"""The work of each worker; it commits what came of it in the first one."""


def train_together(session: Session, stage: str, jobs: Mapping[str, Job], storage: Path) -> None:
    """Do all jobs, one after the other, each on ``resources.workers_per_classifier`` workers.

    Raises the FairsynthError that a job raised, or InfrastructureError.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    worker, together = session.worker(), session.resources.workers_per_classifier
    session.require_room(worker, together, "resources.workers_per_classifier")
    resources = {"CPU": worker.cpus} | ({"GPU": worker.gpus} if worker.gpus else {})
    for name, job in jobs.items():
        trainer = TorchTrainer(
            _run,
            train_loop_config={"job": job, "threads": worker.threads},
            torch_config=TorchConfig(backend="nccl" if worker.gpus >= 1 else "gloo"),
            scaling_config=ScalingConfig(num_workers=together, use_gpu=worker.gpus > 0, resources_per_worker=resources),
            run_config=RunConfig(
                # A fresh name each time: resuming is by our own files.
                name=f"{name}-{uuid.uuid4().hex[:12]}",
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=session.resources.max_failures),
            ),
        )
        try:
            failure = trainer.fit().return_value
        except Exception as error:
            raise translated(stage, error) from error
        if failure:
            raise unpacked(stage, failure)


def _run(config: Mapping[str, Any]) -> str:
    import torch

    from fairsynth.errors import FairsynthError, InfrastructureError

    torch.set_num_threads(config["threads"])
    try:
        config["job"](share_of_worker())
    except InfrastructureError:
        raise  # Ray tries again
    except FairsynthError as error:
        return packed(error)
    return ""


def share_of_worker() -> Share:
    """This worker's place among those of its Ray Train run."""
    import ray.train

    from fairsynth.models.data_parallel import Share

    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Share()
    return Share(context.get_world_rank(), context.get_world_size(), _summed)


def _summed(values: Any) -> None:
    """All workers' sum, in place. What lies on the CPU goes by way of the GPU where messages do."""
    import torch

    if torch.distributed.get_backend() == "nccl" and not values.is_cuda:
        moved = values.cuda()
        torch.distributed.all_reduce(moved)
        values.copy_(moved)
    else:
        torch.distributed.all_reduce(values)

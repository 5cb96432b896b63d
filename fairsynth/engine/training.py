"""Fans adapters out over Ray Train: one TorchTrainer per lot, a bounded number side by side.

What is durable is files: an adapter's unit, and its checkpoint beside the units. A killed worker,
run or driver loses at most one checkpoint interval of the adapters in training.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.artifacts import Artifact, Units
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.engine.failures import root_cause
from fairsynth.engine.heartbeat import Heartbeat
from fairsynth.engine.session import Session, Worker
from fairsynth.engine.units import Ran
from fairsynth.errors import FairsynthError, InfrastructureError
from fairsynth.groups import Group
from fairsynth.stages.finetune import lots as cut_lots
from fairsynth.vectors import matrix

if TYPE_CHECKING:
    from fairsynth.stages.adapter_training import Latents


def train_adapters(
    session: Session,
    jobs: Sequence[AdapterJob],
    models: ModelsConfig,
    config: FinetuneConfig,
    artifact: Artifact,
    embeddings: Sequence[Path],
    class_units: Mapping[str, str],
) -> Ran:
    """Train every adapter that has no unit yet; ``class_units`` names the unit with the latents of each class prompt.

    Raises FairsynthError or InfrastructureError once all lots have ended, if one of them failed.
    """
    units = artifact.units()
    done = units.done()
    lots = cut_lots(jobs, session.resources.adapters_per_run)
    pending = [lot for lot in lots if any(job.name not in done for job in lot)]
    if not pending:
        return Ran(0, len(jobs), 0.0)
    session.connect()
    import ray

    worker, began = session.worker(), time.monotonic()
    missing = sum(job.name not in done for job in jobs)
    beat = Heartbeat("finetune", len(jobs), len(jobs) - missing)
    fit = ray.remote(num_cpus=0, max_retries=2)(_fit_lot)
    waiting, startups = list(pending), [0.0]
    running: dict[Any, list[AdapterJob]] = {}
    failures: list[BaseException] = []
    while waiting or running:
        while waiting and len(running) < worker.count:
            lot = waiting.pop(0)
            loop = {
                "jobs": [_pack(job) for job in lot],
                "models": models.model_dump(),
                "config": config.model_dump(),
                "stage": str(artifact.path),
                "embeddings": [str(p) for p in embeddings],
                "class_units": dict(class_units),
                "threads": worker.threads,
            }
            running[fit.options(name=f"lot:{lot[0].name}").remote(loop, worker, session.resources.max_failures)] = lot
        ready, _ = ray.wait(list(running), num_returns=1)
        lot = running.pop(ready[0])
        try:
            startups.append(ray.get(ready[0]) - began)
        except ray.exceptions.RayError as error:
            failures.append(error)
        for _job in lot:
            beat.tick()
    if failures:
        cause = root_cause(failures[0])
        kind = FairsynthError if isinstance(cause, FairsynthError) else InfrastructureError
        raise kind(
            f"stage finetune failed in {len(failures)} of {len(pending)} lots: {' '.join(str(cause).split())[-400:]}; "
            "finished adapters are kept, the same command goes on"
        ) from failures[0]
    return Ran(missing, len(jobs) - missing, max(0.0, min(s for s in startups[1:]) if len(startups) > 1 else 0.0))


def _pack(job: AdapterJob) -> dict[str, Any]:
    return {**asdict(job), "group": list(job.group), "image_ids": list(job.image_ids)}


def _unpack(packed: Mapping[str, Any]) -> AdapterJob:
    return AdapterJob(**{**packed, "group": Group(*packed["group"]), "image_ids": tuple(packed["image_ids"])})


def _fit_lot(loop: dict[str, Any], worker: Worker, max_failures: int) -> float:
    """Run one TorchTrainer over a lot; returns when (monotonic clock) its worker began to train."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # A fresh name each time: resuming is by our own files, and a Train state file that a kill
    # cut in half must not stop the next attempt. And no text from the data: it becomes a folder's name.
    name = f"lot-{uuid.uuid4().hex[:12]}"
    resources = {"CPU": worker.cpus} | ({"GPU": worker.gpus} if worker.gpus else {})
    trainer = TorchTrainer(
        train_lot,
        train_loop_config=loop,
        # One worker needs no collective library; gloo works with and without GPUs.
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=1, use_gpu=worker.gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=name,
            storage_path=str(Path(loop["stage"]) / "ray"),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )
    result = trainer.fit()
    return float(result.return_value or time.monotonic())


def train_lot(loop: Mapping[str, Any]) -> float:
    """The training function of one Ray Train worker: train the lot's adapters that have no unit yet, one after another."""
    import torch

    from fairsynth.models.diffusion import load_pipeline
    from fairsynth.stages import adapter_training as stage_code

    torch.set_num_threads(loop["threads"])
    began = time.monotonic()
    stage, config = Path(loop["stage"]), FinetuneConfig.model_validate(loop["config"])
    units, checkpoints = Units(stage / "units"), stage / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    jobs = [_unpack(packed) for packed in loop["jobs"]]
    trainer = stage_code.AdapterTrainer(load_pipeline(ModelsConfig.model_validate(loop["models"])), config)
    for job in jobs:
        if units[job.name].exists():
            continue
        path = checkpoints / f"{job.name}.safetensors"
        latents = load_latents(
            job, [Path(p) for p in loop["embeddings"]], units, loop["class_units"].get(job.class_prompt)
        )
        weights = trainer.train(
            job, latents, stage_code.load_snapshot(path), partial(stage_code.save_snapshot, path=path)
        )
        units.commit(job.name, partial(stage_code.save_job, job, weights, config))
        path.unlink(missing_ok=True)
    return began


def load_latents(job: AdapterJob, embeddings: Sequence[Path], units: Units, class_unit: str | None) -> Latents:
    """Posteriors of the job's images, in the job's order, and the class latents if there are any."""
    from fairsynth.stages.adapter_training import Latents

    table = pq.read_table([str(p) for p in embeddings], columns=["image_id", "mean", "std", "latent_shape"])
    where = {image: row for row, image in enumerate(table.column("image_id").to_pylist())}
    chosen = table.take([where[image] for image in job.image_ids])
    shape = (-1, *chosen.column("latent_shape")[0].as_py())
    prior = None
    if class_unit is not None:
        prior = matrix(pq.read_table(units[class_unit] / "latents.parquet"), "mean").reshape(shape)
    return Latents(matrix(chosen, "mean").reshape(shape), matrix(chosen, "std").reshape(shape), prior)


def read_adapter(folder: Path) -> dict[str, Any]:
    """What an adapter was made from (``adapter.json``)."""
    return json.loads((folder / "adapter.json").read_text("utf-8"))  # type: ignore[no-any-return]

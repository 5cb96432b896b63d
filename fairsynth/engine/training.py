"""Fans adapters out over Ray Train: one TorchTrainer per lot, a bounded number side by side.

What is durable is files: an adapter's unit, and its lot's checkpoint beside the units. A killed worker,
run or driver loses at most one checkpoint interval of the adapters in training.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.artifacts import Artifact
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.engine.failures import translated, unpacked
from fairsynth.engine.heartbeat import Heartbeat
from fairsynth.engine.lot_worker import loop_of, train_lot
from fairsynth.engine.session import Session, Worker
from fairsynth.engine.units import Ran
from fairsynth.errors import FairsynthError
from fairsynth.stages.finetune import lots as cut_lots

# Seconds between looks at how many adapters are done.
_LOOK = 5.0


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
    units, names = artifact.units(), {job.name for job in jobs}
    done = units.done()
    if names <= done:
        return Ran(0, len(jobs), 0.0)
    units.sweep()
    session.connect()
    worker, began = session.worker(), time.time()
    resources = session.resources
    together = resources.workers_per_cluster if config.parameters == "full" else 1
    side_by_side = max(1, worker.count // together)
    per_lot = 1 if config.parameters == "full" else resources.adapters_per_run
    lots = cut_lots(jobs, side_by_side, per_lot)
    loops = [
        loop_of(lot, jobs, models, config, artifact, embeddings, class_units, worker, resources.adapters_at_once)
        | {"workers": together, "max_failures": resources.max_failures, "side_by_side": min(side_by_side, len(lots))}
        for lot in lots
        if any(job.name not in done for job in lot)
    ]
    beat = Heartbeat("finetune", len(jobs), len(names & done))
    ended = _run_lots(loops, side_by_side, lambda: beat.reach(len(names & units.done())), worker)
    failures = [result for result in ended if isinstance(result, FairsynthError)]
    if failures:
        kept = f"stage finetune failed in {len(failures)} of {len(loops)} lots: "
        raise type(failures[0])(kept + str(failures[0]).removeprefix("stage finetune failed: ")) from failures[0]
    startup = min(result for result in ended if not isinstance(result, FairsynthError)) - began
    return Ran(len(names - done), len(names & done), max(0.0, startup))


def _run_lots(
    loops: list[dict[str, Any]], side_by_side: int, tick: Any, worker: Worker
) -> list[float | FairsynthError]:
    """Run all lots; of each, when its worker began to train, or what it failed on."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Beside the driver, where Train's controllers then are too: that node is the last to be taken away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    fit = ray.remote(num_cpus=0, max_retries=2, scheduling_strategy=here)(_fit_lot)
    waiting, running, ended = list(loops), set[Any](), list[float | FairsynthError]()
    while waiting or running:
        while waiting and len(running) < side_by_side:
            loop = waiting.pop(0)
            running.add(fit.options(name=loop["name"]).remote(loop, worker))
        ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK)
        for lot in ready:
            running.remove(lot)
            try:
                told = ray.get(lot)
                ended.append(unpacked("finetune", told["failure"]) if told["failure"] else told["began"])
            except ray.exceptions.RayError as error:
                ended.append(translated("finetune", error))
        tick()
    return ended


def _fit_lot(loop: dict[str, Any], worker: Worker) -> dict[str, Any]:
    """Run one TorchTrainer over a lot; returns when its worker began to train, and what failed."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": worker.cpus} | ({"GPU": worker.gpus} if worker.gpus else {})
    trainer = TorchTrainer(
        train_lot,
        train_loop_config=loop,
        # One worker needs no collective library; gloo works with and without GPUs.
        torch_config=TorchConfig(backend="nccl" if worker.gpus >= 1 and loop["workers"] > 1 else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=loop["workers"], use_gpu=worker.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            # A fresh name each time: resuming is by our own files, and a Train state file that a kill
            # cut in half must not stop the next attempt. And no text from the data: it becomes a folder's name.
            name=f"{loop['name']}-{uuid.uuid4().hex[:12]}",
            storage_path=str(Path(loop["stage"]) / "ray"),
            failure_config=FailureConfig(max_failures=loop["max_failures"]),
        ),
    )
    return dict(trainer.fit().return_value or {"began": time.time(), "failure": ""})

"""Fans adapters out over Ray Train: one TorchTrainer per lot, a bounded number side by side.

What is durable is files: an adapter's unit, and its lot's checkpoint beside the units. A killed worker,
run or driver loses at most one checkpoint interval of the adapters in training.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from fairsynth.artifacts import Artifact
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.engine.failures import translated, unpacked
from fairsynth.engine.heartbeat import Heartbeat
from fairsynth.engine.lot_worker import loop_of, train_lot
from fairsynth.engine.session import Session, Worker
from fairsynth.engine.units import Ran
from fairsynth.errors import FairsynthError
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.plan import lots as cut_lots

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
    began, resources, full = time.time(), session.resources, config.parameters == "full"
    worker, lanes = session.lot_worker(1 if full else len(jobs))
    together = resources.workers_per_cluster if full else 1
    session.require_room(worker, together)
    side_by_side = max(1, worker.count // together)
    lots = cut_lots(jobs, side_by_side, 1 if full else resources.adapters_per_run)
    shared = {
        "workers": together,
        "lanes": lanes,
        "side_by_side": min(side_by_side, len(lots)),
        "at_once": resources.adapters_at_once,
        "max_failures": resources.max_failures,
    }
    loops = [
        loop_of(lot, jobs, models, config, artifact, embeddings, class_units, worker, shared)
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
    loops: list[dict[str, Any]], side_by_side: int, tick: Callable[[], None], worker: Worker
) -> list[float | FairsynthError]:
    """Run all lots; of each, when its worker began to train, or what it failed on."""
    waiting, ended = list(loops), list[float | FairsynthError]()
    results: Queue[float | FairsynthError] = Queue()
    running = 0
    while waiting or running:
        while waiting and running < side_by_side:
            # Daemons: an interrupted run does not wait for its lots.
            Thread(target=lambda loop: results.put(_fit_lot(loop, worker)), args=(waiting.pop(0),), daemon=True).start()
            running += 1
        with suppress(Empty):
            ended.append(results.get(timeout=_LOOK))
            running -= 1
        tick()
    return ended


def _fit_lot(loop: dict[str, Any], worker: Worker) -> float | FairsynthError:
    """Run Ray Train over a lot; returns when its worker began to train, or what it failed on."""
    try:
        told = _trainer(loop, worker).fit().return_value
        return unpacked("finetune", told["failure"]) if told["failure"] else float(told["began"])
    except Exception as error:
        return translated("finetune", error)


def _trainer(loop: dict[str, Any], worker: Worker) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    resources = {"CPU": worker.cpus} | ({"GPU": worker.gpus} if worker.gpus else {})
    options = {
        "train_loop_config": loop,
        "scaling_config": ScalingConfig(
            num_workers=loop["workers"], use_gpu=worker.gpus > 0, resources_per_worker=resources
        ),
        "run_config": RunConfig(
            # A fresh name each time: resuming is by our own files, and a Train state file that a kill
            # cut in half must not stop the next attempt. And no text from the data: it becomes a folder's name.
            name=f"{loop['name']}-{uuid.uuid4().hex[:12]}",
            storage_path=str(Path(loop["stage"]) / "ray"),
            failure_config=FailureConfig(max_failures=loop["max_failures"]),
        ),
    }
    if loop["workers"] == 1:
        # One worker needs no process group, and its controller no torch, which takes seconds to import.
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        return DataParallelTrainer(train_lot, **options)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "nccl" if worker.gpus >= 1 else "gloo"
    return TorchTrainer(train_lot, torch_config=TorchConfig(backend=backend), **options)

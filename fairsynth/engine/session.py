"""The connection to Ray, and what the cluster offers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth import interrupts
from fairsynth.config import ResourcesConfig
from fairsynth.engine import nodes
from fairsynth.engine.address import check_address
from fairsynth.engine.failures import root_cause, translated
from fairsynth.engine.forks.start import Server, can_fork
from fairsynth.engine.lifetime import processes, start
from fairsynth.engine.lifetime.head import Watch
from fairsynth.engine.lifetime.words import is_rays
from fairsynth.engine.progress import Progress, watched
from fairsynth.engine.ray_start import not_started, stderr_kept
from fairsynth.engine.signals import handlers_kept
from fairsynth.errors import InfrastructureError

_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "PYTHONWARNINGS": "ignore",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    # An interrupted search ends as every interrupted command does.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


# What is put back when Ray has been ended: a session that was interrupted leaves it connected.
_left = ExitStack()


@dataclass(frozen=True)
class Worker:
    """What one actor, training worker or trial gets, and how many of them run side by side."""

    count: int
    cpus: float
    gpus: float
    threads: int


@dataclass(frozen=True)
class Room:
    """How jobs are placed: what one worker gets, the workers of a job, lanes inside a worker, jobs side by side."""

    worker: Worker
    workers: int
    lanes: int
    side_by_side: int


class Session:
    """Connects to Ray when first needed, and disconnects if it connected."""

    def __init__(self, resources: ResourcesConfig, progress: Progress | None = None) -> None:
        self.resources, self.progress = resources, progress or Progress()
        self.startup_seconds = 0.0
        self.jobs_left = False
        """Whether jobs that nobody waits for are still at work."""
        self.lost: InfrastructureError | None = None
        """Why Ray cannot be talked to any more."""
        self._connected = self._answered = False
        # Another thread cannot be interrupted, and the main one may be at other work then.
        self._in_main = threading.current_thread() is threading.main_thread()
        self._watch: Watch | None = None
        self._while_connected = ExitStack()

    def connect(self) -> None:
        """Join the cluster of RAY_ADDRESS, or start a local Ray. Raises InfrastructureError if that fails."""
        self.look()
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return
        began = time.monotonic()
        os.environ.setdefault("OMP_NUM_THREADS", str(self.resources.threads))
        interrupts.before_the_end(processes.end)
        try:
            with handlers_kept(), stderr_kept() as said:
                self._init(ray)
        except InfrastructureError:
            raise
        except Exception as error:  # Ray raises almost anything, even a plain Exception, where it does not start
            raise not_started(error, said=said()) from error
        self._connected = True
        self._watch = Watch(self._lose)
        self.startup_seconds += time.monotonic() - began

    def look(self) -> None:
        """Raise InfrastructureError if RAY_ADDRESS names a cluster that does not answer; once there was an answer, never."""
        if not self._answered and not is_connected():
            check_address()
        self._answered = True

    def _init(self, ray: Any) -> None:
        try:
            if os.environ.get("RAY_ADDRESS", "") not in ("", "local"):
                start.join(ray)
            else:
                self._while_connected.enter_context(start.with_token())
                start.start(ray, self._forks())
            self._while_connected.enter_context(start.without_rays_words())
        except BaseException:
            self._while_connected.close()
            raise

    def _forks(self) -> Server | None:
        if self.resources.fork_workers == "never" or not can_fork():
            return None
        server = Server()
        self._while_connected.callback(server.end)
        return server

    def _lose(self, error: InfrastructureError) -> None:
        """What this session works on is gone; from another thread.

        A program that has its work done in a thread besides the main one (``asyncio.to_thread``) is told by Ray itself.
        """
        self.lost = error
        if interrupts.caught():
            interrupts.stop(error)
        elif self._in_main:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    @property
    def workers(self) -> int:
        """Workers that a stage has used so far: 1 where Ray was not needed."""
        import ray

        return self.worker().count if ray.is_initialized() else 1

    def worker(self) -> Worker:
        """Size and number of workers.

        A cluster that starts its nodes on demand has no resources to count yet, so there the config's numbers apply.
        Raises InfrastructureError if they are missing, or if the local machine can never hold a worker.
        """
        self.connect()
        there, wanted = nodes.alive(), self.resources
        on_demand = bool(os.environ.get("RAY_ADDRESS") and wanted.workers)
        gpus = wanted.gpus_per_worker
        gpus = (1.0 if nodes.total(there, "GPU") else 0.0) if gpus is None else gpus
        if gpus and not on_demand and not nodes.room_for(there, 1.0, gpus):
            raise InfrastructureError(
                f"one worker needs {gpus:g} GPUs and a CPU of one node, and no node has them (GPUs of the largest: "
                f"{nodes.most(there, 'GPU'):g}); lower resources.gpus_per_worker, or, on a cluster that starts its nodes on "
                "demand, set resources.workers too"
            )
        if not on_demand and not gpus and nodes.total(there, "CPU") < 1:
            raise InfrastructureError(
                "the cluster has no CPUs yet; set resources.workers and resources.gpus_per_worker so that it starts nodes"
            )
        count = wanted.workers or (nodes.room_for(there, 1.0, gpus) if gpus else self._by_cores(wanted.threads))
        return Worker(max(1, count), 1.0, gpus, wanted.threads)

    @staticmethod
    def _by_cores(threads: int) -> int:
        """Workers with a core per thread. Off this machine one CPU stays free for Ray Data's own tasks."""
        there = nodes.alive()
        if os.environ.get("RAY_ADDRESS"):
            return nodes.room_for_threads(there, threads, spare=True)
        # Ray may have been given more CPUs than there are.
        return nodes.room_for_threads([{"CPU": min(nodes.total(there, "CPU"), os.cpu_count() or 1)}], threads, False)

    def room(self, workers: int, setting: str, lanes: int = 1) -> Room:
        """Place jobs of several workers each; ``lanes``: how many pieces of a job may train side by side.

        On a machine without GPUs one job has all cores, a lane each, because each start costs seconds of every core.
        Raises InfrastructureError, which names ``setting``, if the cluster can never run that many workers at once
        (Ray would wait forever): workers that are counted on each node, for none lies on two.
        """
        worker, lanes = self._with_lanes(self.worker(), lanes if workers == 1 else 1)
        self._require(worker, workers, setting)
        return Room(worker, workers, lanes, max(1, worker.count // workers))

    def _with_lanes(self, worker: Worker, lanes: int) -> tuple[Worker, int]:
        if worker.gpus or self.resources.workers or os.environ.get("RAY_ADDRESS"):
            return worker, 1
        lanes = min(worker.count, lanes)
        return Worker(1, worker.cpus * lanes, 0.0, worker.threads), lanes

    def _require(self, worker: Worker, workers: int, setting: str) -> None:
        if os.environ.get("RAY_ADDRESS") and self.resources.workers:
            return  # its nodes may start on demand
        room = nodes.room_for(nodes.alive(), worker.cpus, worker.gpus)
        if workers > room:
            size = f"{worker.gpus:g} GPUs and {worker.cpus:g} CPUs" if worker.gpus else f"{worker.cpus:g} CPUs"
            raise InfrastructureError(
                f"{workers} workers that train together need {size} each, all of one node, and the nodes have room for "
                f"{room}; lower {setting}" + (" or resources.gpus_per_worker" if worker.gpus else "")
            )

    def cpu_worker(self) -> Worker:
        """A worker for work without models: one CPU, no GPU; as many as the config says, else one per CPU."""
        self.connect()
        return Worker(max(1, self.resources.workers or self._by_cores(1)), 1.0, 0.0, 1)

    def let_go(self) -> None:
        """Look after Ray no more: whoever ends it later, ends it on purpose."""
        if self._watch is not None:
            self._watch.end()
        _left.push(self._while_connected.pop_all())

    def close(self) -> None:
        """Disconnect, if this session connected."""
        self.let_go()
        if self._connected:
            disconnect()
            self._connected = False


def is_connected() -> bool:
    """Whether this process is connected to Ray; does not import it."""
    asked = getattr(sys.modules.get("ray"), "is_initialized", None)
    return bool(asked and asked())


def disconnect() -> None:
    """End the connection that an interrupted run has left, and a local Ray with it.

    For programs that live on: else the actors of that run would keep the CPUs that the next one waits for.
    """
    if is_connected():
        import ray

        with handlers_kept():
            ray.shutdown()
    _left.close()


@contextmanager
def session_of(
    resources: ResourcesConfig, root: Path | None = None, max_worker_hours: float | None = None
) -> Iterator[Session]:
    """A session that is closed at the end, except while jobs are at work: ``fairsynth.console.leave`` says why.

    ``root``: the output folder that gets its log and its progress.
    """
    with watched(root, max_worker_hours) as progress:
        session = Session(resources, progress)
        try:
            yield session
        except BaseException as error:
            session.let_go()
            if session.lost is not None:
                raise session.lost from error
            if not session.jobs_left and not isinstance(error, KeyboardInterrupt):
                session.close()
            if isinstance(error, Exception) and is_rays(root_cause(error)):
                raise translated(progress.stage_name or "of this command", error) from error
            raise
        session.close()

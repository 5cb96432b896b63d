"""A question to every node of the cluster, answered by a worker there."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from fairsynth.engine.failures import root_cause
from fairsynth.engine.session import Session
from fairsynth.errors import ConfigError
from fairsynth.run_folder.files import remove
from fairsynth.store.mirror import place_of

PROBE = ".fairsynth-probe-"
_TOKEN = "token"  # noqa: S105 - a file's name
_PROBE_SECONDS = 60.0
_SHARED: WeakSet[Session] = WeakSet()


@dataclass(frozen=True)
class Answer:
    """Of one node: what the work returned there, or why it did not. Times are the asker's, in seconds since the epoch."""

    node: str
    asked: float
    answered: float
    result: Any = None
    failure: str = ""


@dataclass(frozen=True)
class Cluster:
    """What a cluster is: Ray's version, its nodes, and their CPUs and GPUs together."""

    ray: str
    nodes: int
    cpus: float
    gpus: float


def cluster(session: Session) -> Cluster:
    """The cluster of RAY_ADDRESS, or a local one. Raises InfrastructureError if there is none to be had."""
    session.connect()
    import ray

    total = ray.cluster_resources()
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(ray.__version__, len(alive), total.get("CPU", 0.0), total.get("GPU", 0.0))


def on_each_node(session: Session, work: Callable[[], Any], seconds: float) -> list[Answer]:
    """Run the work once on every node that has CPUs, however busy they are, and wait at most that long for all.

    The work must be importable on the nodes; what it returns must pass between processes.
    """
    session.connect()
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    asked = time.time()
    tasks = {}
    for node in there:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(_call).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(work)
        tasks[task] = node["NodeManagerHostname"]
    answers, waiting, ends = [], list(tasks), time.monotonic() + seconds
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=max(0.0, ends - time.monotonic()))
        if not ready:
            break
        answers += [_answer(tasks[task], asked, task) for task in ready]
    late = f"no answer within {seconds:g} seconds"
    return answers + [Answer(tasks[task], asked, time.time(), failure=late) for task in waiting]


def require_shared(session: Session, folder: Path) -> None:
    """Raise ConfigError if a node of the cluster has another disk than this machine where the output folder is.

    A file is written here, read on each node and answered there, once in a session. Nodes that do not answer in time are
    passed over, and a cluster of one node has nothing to be asked.
    """
    if session in _SHARED or place_of(folder):
        return  # a bucket is the same everywhere
    session.connect()
    import ray

    if sum(node["Alive"] for node in ray.nodes()) > 1:
        for left in folder.glob(f"{PROBE}*"):
            remove(left)  # of a run that was killed while it asked
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=folder) as probe:
            _probe(session, folder, Path(probe))
    _SHARED.add(session)


def _probe(session: Session, folder: Path, probe: Path) -> None:
    token = uuid.uuid4().hex
    (probe / _TOKEN).write_text(token, "utf-8")
    answers = on_each_node(session, partial(_passed_on, str(probe), token), _PROBE_SECONDS)
    for answer in (answer for answer in answers if not answer.failure):
        problem, name = answer.result
        if problem or not (probe / name).exists():
            why = problem or "what it writes there cannot be seen here"
            raise ConfigError(
                f"the output folder {session.progress.root or folder} is not the same on all nodes of the cluster: {answer.node}: {why}; choose one on a "
                "disk that all nodes share with --out, or --to of predict ('fairsynth doctor' with the same options checks it)"
            )


def _passed_on(probe: str, token: str) -> tuple[str, str]:
    """On a node: read the driver's token and leave it under another name; what went wrong, if anything, and the name."""
    name = f"seen-{uuid.uuid4().hex}"
    try:
        if Path(probe, _TOKEN).read_text("utf-8") != token:
            return "another file than the driver's is there", name
        Path(probe, name).write_text(token, "utf-8")
    except OSError as error:
        return str(error.strerror or error), name
    return "", name


def _call(work: Callable[[], Any]) -> Any:
    return work()


def _answer(node: str, asked: float, task: Any) -> Answer:
    import ray

    try:
        return Answer(node, asked, time.time(), ray.get(task))
    except Exception as error:  # whatever the worker raised, or Ray about it
        cause = root_cause(error)
        text = " ".join(str(cause).split())[-300:]
        return Answer(node, asked, time.time(), failure=f"{type(cause).__name__}: {text}")

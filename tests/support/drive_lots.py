"""200 adapters on four simulated nodes, of which one dies and one is taken back with a notice. Prints JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Before ray is imported; a simulated cluster has no authentication.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}

import ray
from ray.cluster_utils import Cluster

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import ResourcesConfig, RunConfig
from fairsynth.engine.session import Session
from fairsynth.stages.context import Context
from fairsynth.stages.finetune import step
from fairsynth.stages.finetune.lot_state import load_state
from fairsynth.stages.finetune.worker import LotTask, train_lot
from tests.support.many_clusters import CONFIG, PER_LOT, embeddings, many_jobs, models

# Seconds that the notice gives; clouds give 30 and more. The node goes as soon as the notice has had its checkpoint.
NOTICE = 30.0
# Seconds after which nothing is waited for any more: what is missing then fails the test.
_MOST = 200.0
# Folders beside the units, with a file per lot: those that wait to be disturbed, and those that know of a notice.
HELD, WARNED = "held", "warned"
# The file for which lots wait.
GO = "go"


class Watch(threading.Thread):
    """Reads the lots' checkpoints again and again: the steps that each lot had done, as they came."""

    def __init__(self, stage: Path) -> None:
        super().__init__(daemon=True)
        self.stage, self.steps = stage, defaultdict[str, list[int]](list)

    def run(self) -> None:
        seen: dict[str, tuple[int, int]] = {}
        while True:
            for path in (self.stage / "checkpoints").glob("[!.]*.safetensors"):
                with suppress(FileNotFoundError):  # the lot has just ended
                    told = path.stat()
                    if seen.get(path.name) != (told.st_ino, told.st_mtime_ns):
                        seen[path.name] = (told.st_ino, told.st_mtime_ns)
                        state = load_state(path)
                        if state is not None and self.steps[path.stem][-1:] != [state.steps]:
                            self.steps[path.stem].append(state.steps)
            time.sleep(0.05)


class Disturber(threading.Thread):
    """Kills a node whose lot is in training, and drains another, whose lot is in training too, with a notice."""

    def __init__(self, cluster: Cluster, nodes: list[Any], stage: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.nodes, self.stage, self.events = cluster, {node.node_id: node for node in nodes}, stage, {}

    def committed(self) -> list[str]:
        return sorted(path.name for path in (self.stage / "units").glob("[!.]*") if "=" not in path.name)

    def node_of(self, lot: str) -> Any:
        return self.nodes[(self.stage / "where" / lot).read_text().split()[-1]]

    def run(self) -> None:
        # Two lots that have ended some adapters and have others to train: they stay so until they may go on.
        waited(lambda: len([*(self.stage / HELD).glob("*")]) >= 2)
        killed, drained = sorted(path.name for path in (self.stage / HELD).glob("*"))[:2]
        self.events |= {"killed": killed, "drained": drained, "at_kill": self.committed()}
        self.cluster.remove_node(self.node_of(killed), allow_graceful=False)
        node = self.node_of(drained)
        self.events["at_notice"] = self.committed()
        self.events["drain_accepted"] = self.drain(node)
        waited((self.stage / WARNED / drained).exists)
        (self.stage / GO).touch()
        waited((self.stage / "noticed" / drained).exists)
        self.cluster.remove_node(node, allow_graceful=False)
        self.events["at_removal"] = self.committed()

    def drain(self, node: Any) -> bool:
        """What a cloud does when it takes a spot machine back."""
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

        deadline = int((time.time() + NOTICE) * 1000)
        client = GcsClient(address=self.cluster.address)
        return bool(client.drain_node(node.node_id, DRAIN_NODE_REASON_PREEMPTION, "spot", deadline)[0])


def waited(until: Callable[[], bool]) -> None:
    """Wait until it is so, or for as long as anything is waited for."""
    end = time.monotonic() + _MOST
    while not until() and time.monotonic() < end:
        time.sleep(0.05)


def train_where(task: LotTask, ranks: Any, machine_goes: Callable[[], bool]) -> None:
    """``train_lot``, which notes first on which node it runs, then each checkpoint and each notice, by the lot's steps.

    Where some of the lot's adapters have ended and others are in training, it waits until it may go on.
    """
    from fairsynth.stages.finetune import lot_state
    from fairsynth.stages.finetune.lot import Lot

    def note(what: str, text: object) -> None:
        folder = task.stage / what
        folder.mkdir(exist_ok=True)
        with (folder / task.name).open("a") as file:
            file.write(f"{text}\n")

    save_state, save = lot_state.save_state, Lot._save

    def saving(state: lot_state.LotState, path: Path) -> None:
        save_state(state, path)
        note("saved", state.steps)
        if state.ended and state.rows and not (task.stage / GO).exists():
            note(HELD, state.steps)
            waited((task.stage / GO).exists)

    def seeing(self: Lot) -> None:
        before = self.noticed
        save(self)
        if self.noticed and not before:
            note("noticed", self.steps)

    def asked() -> bool:
        goes = machine_goes()
        if goes:
            note(WARNED, "")
        return goes

    note("where", ray.get_runtime_context().get_node_id())
    lot_state.save_state, Lot._save = saving, seeing  # type: ignore[assignment, method-assign]
    try:
        train_lot(task, ranks, asked)
    finally:
        lot_state.save_state, Lot._save = save_state, save  # type: ignore[method-assign]


def main(folder: Path) -> None:
    """Train on the cluster in ``folder``; what happened goes to ``events.json``."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(4)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = cluster.address
    artifact = Artifact(folder, Identity("finetune", 1, {}, {}))
    artifact.open()
    jobs, watch = many_jobs(), Watch(artifact.path)
    watch.start()
    disturber = Disturber(cluster, nodes, artifact.path)
    disturber.start()
    step.train_lot = train_where
    config = RunConfig(models=models(folder), finetune=CONFIG, resources=ResourcesConfig(adapters_per_run=PER_LOT))
    context = Context(config, folder, Session(config.resources))
    ran = step.train_adapters(context, artifact, jobs, embeddings(folder), {})
    places, saved, noticed = (
        {path.name: path.read_text().split() for path in (artifact.path / what).glob("*")}
        for what in ("where", "saved", "noticed")
    )
    alive = sum(node["Alive"] for node in ray.nodes())
    events = disturber.events | {"made": ran.made, "steps": watch.steps, "places": places, "alive": alive}
    events |= {"saved": saved, "noticed": noticed}
    (folder / "events.json").write_text(json.dumps(events), "utf-8")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

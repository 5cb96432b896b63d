"""Where the runs of the chaos harness run and write: one node and a disk, or several simulated nodes and a disk.

A place is started once, gives each whole run its output and the driver its environment, tells what is committed there,
and lays a finished run's output out as a folder, to be compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import processes

ROOT = Path(__file__).parents[2]
HOOKS = Path(__file__).parent / "hooks"
_WORKERS_OF_NODES = 2


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What processes that keep a journal in a folder have in their environment."""
    return {"PYTHONPATH": os.pathsep.join([str(HOOKS), str(ROOT)]), "CHAOS_FOLDER": str(folder.resolve()), **more}


class Disk:
    """One node: each driver starts a Ray of its own, and writes to a folder on this disk."""

    kinds: Mapping[str, int] = {
        "driver": 3,
        "worker": 4,
        "raylet": 1,
        "gcs": 1,
        "everything": 1,
        "SIGTERM": 1,
        "SIGINT": 1,
        "stopped": 1,
    }
    workers = 1
    settings: Mapping[str, object] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        """Prepare what all runs share."""

    def environment(self) -> dict[str, str]:
        """What the driver gets besides the usual environment."""
        return {}

    def out(self, name: str) -> str:
        """The output of a whole run, as ``--out`` gets it."""
        return str(self.folder / name)

    def processes(self, driver: int) -> list[psutil.Process]:
        """Ray's processes of a driver's run."""
        return processes.below(driver)

    def committed(self, out: str) -> dict[str, object]:
        """What must stay once it is there, and what tells whether it was made anew: units and records."""
        found: dict[str, object] = {}
        for pattern in ("stages/*/units/[!.]*", "stages/*/artifact.json"):
            for path in Path(out).glob(pattern):
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    found[str(path.relative_to(out))] = (facts.st_ino, facts.st_mtime_ns)
        return found

    def lose_node(self, number: int) -> str:
        """Lose a node for good, and get a new one; returns what was lost."""
        raise NotImplementedError("one node")

    def fail_for(self, seconds: float, how: str) -> list[str]:
        """Let the store fail for so long, by ``unavailable`` or ``hang``; returns what was done."""
        raise NotImplementedError("a disk")

    def renew(self) -> None:
        """Before the next attempt: replace what a strike broke for good."""

    def folder_of(self, out: str) -> Path:
        """A finished run's output as a folder."""
        return Path(out)

    def finish(self) -> None:
        """End what was started."""


class Nodes(Disk):
    """Several simulated nodes, and a disk that all of them have; a driver joins their cluster."""

    kinds: Mapping[str, int] = {
        "driver": 3,
        "worker": 4,
        "node": 3,
        "gcs": 1,
        "SIGTERM": 1,
        "SIGINT": 1,
        "stopped": 1,
    }
    workers = _WORKERS_OF_NODES
    settings: Mapping[str, object] = {"resources.workers": _WORKERS_OF_NODES}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cluster: Any = None

    def start(self) -> None:
        """Start a head and two nodes. Their workers get this process's environment."""
        os.environ |= environment(self.folder) | {"RAY_AUTH_MODE": "disabled"}
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200 * 2**20}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self._node() for _ in range(_WORKERS_OF_NODES)]
        self.cluster.wait_for_nodes()

    def _node(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20, wait=False)

    def environment(self) -> dict[str, str]:
        """The cluster's address. A simulated cluster has no authentication."""
        return {"RAY_ADDRESS": self.cluster.address, "RAY_AUTH_MODE": "disabled"}

    def processes(self, driver: int) -> list[psutil.Process]:
        """The cluster's processes: this process started them."""
        return [one for one in processes.below(os.getpid()) if one.pid != driver]

    def lose_node(self, number: int) -> str:
        """Kill a node's processes at once; another node takes its place seconds later."""
        if not processes.of_kind(processes.below(os.getpid()), "gcs"):
            return "no node: the head is gone, and the command has not ended yet"
        node = self.nodes.pop(number % len(self.nodes))
        self.cluster.remove_node(node, allow_graceful=False)
        time.sleep(2)
        self.nodes.append(self._node())
        return f"node {node.node_id[:12]}"

    def renew(self) -> None:
        """Where the head is lost, the next attempt finds another cluster."""
        if not processes.of_kind(processes.below(os.getpid()), "gcs"):
            self.finish()
            self.start()

    def finish(self) -> None:
        """Stop the cluster, whatever of it is left."""
        left = processes.below(os.getpid())
        with suppress(Exception):  # parts of it were killed
            self.cluster.shutdown()
        for one in processes.still_there((p for p in left if processes.words(p)), 10):
            processes.end(one.pid)

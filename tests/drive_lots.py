"""200 adapters on four simulated nodes, of which one dies and one is taken back with a notice. Prints JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
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
from safetensors import safe_open

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import Session
from fairsynth.engine.training import train_adapters
from tests.many_clusters import CONFIG, PER_LOT, embeddings, many_jobs, models


class Watch(threading.Thread):
    """Reads the lots' checkpoints again and again: the steps that each lot had done, as they came."""

    def __init__(self, stage: Path) -> None:
        super().__init__(daemon=True)
        self.stage, self.steps = stage, defaultdict[str, list[int]](list)

    def run(self) -> None:
        while True:
            for path in (self.stage / "checkpoints").glob("[!.]*.safetensors"):
                try:
                    with safe_open(path, "pt") as handle:
                        steps = json.loads(handle.metadata()["lot"])["steps"]
                except OSError:  # the lot has just ended
                    continue
                if self.steps[path.stem][-1:] != [steps]:
                    self.steps[path.stem].append(steps)
            time.sleep(0.05)


def disturb(cluster: Cluster, nodes: list[Any], stage: Path, told: dict[str, Any]) -> None:
    """Kill one node when a quarter of the adapters is there, and drain another when half is."""
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

    def committed() -> set[str]:
        return {path.name for path in (stage / "units").glob("[!.]*") if "=" not in path.name}

    def wait_for(count: int) -> set[str]:
        while len(committed()) < count:
            time.sleep(0.1)
        return committed()

    told["at_kill"] = sorted(wait_for(50))
    cluster.remove_node(nodes[0], allow_graceful=False)
    told["at_notice"] = sorted(wait_for(100))
    deadline = int((time.time() + 8) * 1000)
    accepted, _ = GcsClient(address=cluster.address).drain_node(
        nodes[1].node_id, DRAIN_NODE_REASON_PREEMPTION, "spot", deadline
    )
    told["drain_accepted"] = bool(accepted)
    time.sleep(8)
    cluster.remove_node(nodes[1], allow_graceful=False)
    told["removed_at"] = len(committed())


def main(folder: Path) -> None:
    """Train on the cluster in ``folder``; what happened goes to ``told.json``."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(4)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = cluster.address
    artifact = Artifact(folder, Identity("finetune", 1, {}, {}))
    artifact.open()
    jobs, told = many_jobs(), dict[str, Any]()
    watch = Watch(artifact.path)
    watch.start()
    threading.Thread(target=disturb, args=(cluster, nodes, artifact.path, told), daemon=True).start()
    session = Session(ResourcesConfig(adapters_per_run=PER_LOT))
    ran = train_adapters(session, jobs, models(folder), CONFIG, artifact, embeddings(folder), {})
    told |= {"made": ran.made, "steps": watch.steps, "alive": sum(node["Alive"] for node in ray.nodes())}
    (folder / "told.json").write_text(json.dumps(told), "utf-8")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Units on two simulated nodes with a GPU each, which Ray counts and nobody uses: ``python -m tests.support.drive_units FOLDER``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ray.cluster_utils import Cluster

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units

NAMES = [f"{number:02d}" for number in range(9)]


class Told:
    """Tells in which process a unit was made, on which GPU, and of what."""

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        made = {"worker": [os.getpid()], "gpu": [os.environ.get("CUDA_VISIBLE_DEVICES", "")]}
        return {"told": pa.table(made | {"sum": [int(np.sum(task.get("pixels", 0)))], "by": [int(task.get("by", 0))]})}


def prepared(name: str) -> dict[str, Any]:
    """An array, and by whom it was made."""
    return {"pixels": np.full((2, 3), int(name)), "by": os.getpid()}


def main(folder: Path) -> None:
    """Make all units by the work alone, then others with what is prepared ahead of it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=2, num_gpus=1)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    with session_of(ResourcesConfig()) as session:
        run_units(session, "synthesize", Units(folder / "alone"), NAMES, Told, per_call=4)
        run_units(session, "embed", Units(folder / "prepared"), NAMES, Told, prepared)
    cluster.shutdown()


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a simulated cluster has no authentication
    main(Path(sys.argv[1]))

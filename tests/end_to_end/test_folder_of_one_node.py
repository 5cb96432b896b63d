"""A cluster one of whose nodes has another disk where the output folder is: refused before any work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_arguments

AWAY = "away"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A cluster of two nodes; for the second the folder ``away`` lies on a disk of its own."""
    from ray.cluster_utils import Cluster

    (tmp_path / AWAY).mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(tmp_path / AWAY)]
    try:
        tried = subprocess.run([*hidden, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if tried.returncode:
        pytest.skip(f"no disk can be hidden from a process here: {tried.stderr.strip()}")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--address", cluster.address]
    node = subprocess.Popen(
        [*hidden, *start, "--num-cpus", "2", "--object-store-memory", "100000000", "--disable-usage-stats"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 120
        while sum(found["Alive"] for found in cluster.global_state.node_table()) < 2:
            assert time.monotonic() < end and node.poll() is None
            time.sleep(0.5)
        yield cluster.address
    finally:
        node.terminate()
        node.wait(60)
        cluster.shutdown()


# Fault case 57: the output folder is local to one machine of a cluster.
def test_an_output_folder_that_a_node_does_not_see_is_refused_before_any_work(tmp_path: Path, address: str) -> None:
    told = {}
    for name in (AWAY, "here"):
        out = tmp_path / name / "out"
        command = [sys.executable, "-m", "fairsynth.cli", "ingest", *small_arguments(out)]
        environment = {**os.environ, "RAY_ADDRESS": address}
        told[name] = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    refused, fine = told[AWAY], told["here"]
    assert refused.returncode == 2 and refused.stderr.startswith("fairsynth: the output folder "), refused.stderr
    assert "is not the same on all nodes of the cluster" in refused.stderr and "with --out" in refused.stderr
    left = list((tmp_path / AWAY / "out").rglob("*"))
    assert not any(path.name.startswith(".fairsynth-probe") or "units" in path.parts for path in left)
    assert fine.returncode == 0, fine.stderr[-2000:]

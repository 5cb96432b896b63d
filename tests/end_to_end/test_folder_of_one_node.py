"""A cluster one of whose nodes has another disk where the output folder is: refused before any work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth.engine.each_node import PROBE
from tests.conftest import small_arguments

AWAY = "away"
_ASK = """
import sys
from pathlib import Path
from fairsynth.config import ResourcesConfig
from fairsynth.engine.each_node import cluster, require_shared
from fairsynth.engine.session import session_of
with session_of(ResourcesConfig()) as session:
    require_shared(session, Path(sys.argv[1]))
    print("shared by", cluster(session).nodes)
"""


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
def test_an_output_folder_that_a_node_does_not_see_is_refused_before_any_workers_work(
    tmp_path: Path, address: str
) -> None:
    out, environment = tmp_path / AWAY / "out", {**os.environ, "RAY_ADDRESS": address}
    command = [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(out)]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    told = [line for line in refused.stderr.splitlines() if line.startswith("fairsynth: ")]
    assert refused.returncode == 2 and len(told) == 1, refused.stderr[-2000:]
    assert told[0].startswith(f"fairsynth: the output folder {out} is not the same on all nodes of the cluster: ")
    assert "with --out" in told[0]
    left = [path.relative_to(out / "stages").parts for path in (out / "stages").rglob("*")]
    assert not any(".fairsynth-probe" in name for parts in left for name in parts)
    assert not any(parts[0].startswith("embed-") and "units" in parts for parts in left)
    # One that both see is none of these; what a run that was killed meanwhile has left there goes.
    left_over = tmp_path / "here" / f"{PROBE}left"
    left_over.mkdir(parents=True)
    (left_over / "token").write_text("x", "utf-8")
    words = [sys.executable, "-c", _ASK, str(tmp_path / "here")]
    fine = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert fine.stdout == "shared by 2\n" and not list((tmp_path / "here").iterdir()), fine.stderr[-2000:]

"""A local Ray has the processes that a run needs, and Ray's own switches are as before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fairsynth.engine.lifetime.few_processes import few_processes
from tests.engine.lifetime.test_start import environment

SESSION = """
import json
from fairsynth.config import ResourcesConfig
from fairsynth.engine.lifetime import processes
from fairsynth.engine.session import session_of

with session_of(ResourcesConfig()) as session:
    session.connect()
    import ray
    answer = ray.get(ray.remote(lambda: 42).remote())
    print(json.dumps([answer, [processes.command(one) for one in processes.rays()]]))
"""


@pytest.mark.slow
def test_what_a_local_ray_consists_of(ray_tmp: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        env=environment(RAY_TMPDIR=str(ray_tmp)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, commands = json.loads(done.stdout)
    assert answer == 42
    assert [one for one in commands if "raylet/raylet" in one] and [one for one in commands if "gcs_server" in one]
    for name in ("monitor.py", "log_monitor.py", "dashboard/dashboard.py"):
        assert not [one for one in commands if one.partition(name)[1] and "raylet/raylet" not in one], commands


def test_ray_is_as_before_then() -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    absent, head = RayParams.update_if_absent, Node.start_api_server
    with pytest.raises(KeyboardInterrupt), few_processes("/setup.py"):
        params = RayParams()
        params.update_if_absent(include_log_monitor=True, setup_worker_path="/rays.py")
        assert (params.no_monitor, params.include_log_monitor, params.setup_worker_path) == (True, False, "/setup.py")
        raise KeyboardInterrupt
    assert (RayParams.update_if_absent, Node.start_api_server) == (absent, head)
    with few_processes(None):
        params = RayParams()
        params.update_if_absent(setup_worker_path="/rays.py")
        assert params.setup_worker_path == "/rays.py"

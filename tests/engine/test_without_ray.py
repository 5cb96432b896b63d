"""A test that is not marked slow cannot start Ray: not in its own process, and not in another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import Session
from fairsynth.errors import InfrastructureError

REFUSED = "only-tests-marked-slow-may-start-ray"


def test_ray_does_not_start_here() -> None:
    with pytest.raises(InfrastructureError, match=REFUSED):
        Session(ResourcesConfig()).connect()


def test_ray_does_not_start_in_another_process() -> None:
    code = "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 1 and REFUSED in child.stderr


@pytest.mark.slow
def test_a_slow_test_may_start_it() -> None:
    assert REFUSED not in os.environ.get("RAY_TMPDIR", "")

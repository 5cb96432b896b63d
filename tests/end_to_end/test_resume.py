"""A run whose driver is killed again and again ends like one that was never disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import fairsynth, small_arguments
from tests.support.comparing import essence


def _kill_after(seconds: float, out: Path) -> bool:
    """Start the run, kill -9 its driver after some seconds; False if it had ended by then."""
    command = [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def _progress(out: Path) -> int:
    """Files that will never be written again: units and records."""
    return sum(1 for pattern in ("stages/*/units/[!.]*", "stages/*/artifact.json") for _ in out.glob(pattern))


# Fault case 51: the driver is killed.
def test_killed_and_resumed_equals_never_killed(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rng, kills, milestones = random.Random(2511), 0, []
    for _ in range(4):
        kills += _kill_after(rng.uniform(12, 32), out)
        milestones.append(_progress(out))
    result = fairsynth("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    assert kills >= 3, "the kills came too late to test anything"
    assert milestones == sorted(milestones), "finished units were lost"
    undisturbed, resumed = essence(finished_run), essence(out)
    for part in undisturbed:
        assert resumed[part] == undisturbed[part], part


# Fault case 53: the run is interrupted.
def test_ctrl_c_ends_in_one_line_and_130(tmp_path: Path) -> None:
    # Whoever starts the tests in the background has SIGINT ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; finished work is kept" in errors
    assert "Traceback" not in errors

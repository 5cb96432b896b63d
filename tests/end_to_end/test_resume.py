"""A run whose driver is killed again and again ends like one that was never disturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import fairsynth, small_arguments
from tests.support.comparing import essence


def _progress(out: Path) -> int:
    """Files that will never be written again: units and records."""
    return sum(1 for pattern in ("stages/*/units/[!.]*", "stages/*/artifact.json") for _ in out.glob(pattern))


def _begun(out: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)


def _until(pieces: int, process: subprocess.Popen[str], out: Path) -> None:
    """Wait until so many pieces of work are finished."""
    while _progress(out) < pieces:
        assert process.poll() is None, "it ended too early to test anything"
        time.sleep(0.05)


def _killed(pieces: int, seconds: float, out: Path) -> None:
    """Start the run; kill -9 its driver once so many pieces of work are finished, and some time has passed."""
    process = _begun(out)
    _until(pieces, process, out)
    time.sleep(seconds)
    assert process.poll() is None, "the kill came too late to test anything"
    process.kill()
    process.wait()


# Fault case 51: the driver is killed.
def test_killed_and_resumed_equals_never_killed(finished_run: Path, tmp_path: Path) -> None:
    out, rng, milestones = tmp_path / "out", random.Random(2511), list[int]()
    # In the beginning, in the middle and towards the end, wherever that is: a kill comes by what is done, not by the clock.
    for third in range(3):
        pieces = int(_progress(finished_run) * (third + rng.uniform(0.1, 0.5)) / 3)
        _killed(max([pieces, *(done + 1 for done in milestones)]), rng.uniform(0, 1), out)
        milestones.append(_progress(out))
    result = fairsynth("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    assert milestones == sorted(milestones), "finished units were lost"
    undisturbed, resumed = essence(finished_run), essence(out)
    for part in undisturbed:
        assert resumed[part] == undisturbed[part], part


# Fault case 53: the run is interrupted.
def test_ctrl_c_ends_in_one_line_and_130(tmp_path: Path) -> None:
    # Whoever starts the tests in the background has SIGINT ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = _begun(tmp_path / "out", subprocess.PIPE)
    _until(1, process, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; finished work is kept" in errors
    assert "Traceback" not in errors

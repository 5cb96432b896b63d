"""However a run is ended, it ends within seconds, by its code and in one line, leaves no process, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth.commands.status.look import look
from fairsynth.engine.lifetime import processes
from tests.conftest import fairsynth, small_arguments
from tests.support.comparing import essence, stage_folder

# Fault case 53: interrupted at any time.
LINE = "fairsynth: interrupted; finished work is kept, the same command goes on\n"
GONE = "fairsynth: Ray's head process (gcs_server) has ended by signal 9; finished work is kept, the same command goes on\n"
# Seconds; on a busy machine all takes longer.
WITHIN, _START = 30, 200


@pytest.fixture
def out(finished_run: Path, tmp_path: Path) -> Path:
    """A run that has its last two stages to do."""
    folder = tmp_path / "out"
    shutil.copytree(finished_run, folder)
    for stage in ("evaluate", "report"):
        shutil.rmtree(stage_folder(folder, stage))
    return folder


def begun(out: Path) -> subprocess.Popen[str]:
    """The command, in the background."""
    variables = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
    words = [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(out)]
    return subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def below(number: int, there: dict[int, list[int]] | None = None) -> Iterator[int]:
    """All processes that a process has started, and those have."""
    there = processes.children() if there is None else there
    for child in there.get(number, []):
        yield child
        yield from below(child, there)


def awaited(process: subprocess.Popen[str], words: str) -> dict[int, str]:
    """All its processes, with their commands, as soon as one of them has these words."""
    ends = time.monotonic() + _START
    while time.monotonic() < ends and process.poll() is None:
        found = {number: processes.command(number) for number in below(process.pid)}
        if any(words in command for command in found.values()):
            return found
        time.sleep(0.1)
    raise AssertionError(f"no process {words}: {process.communicate()}")


def ended(process: subprocess.Popen[str], there: dict[int, str]) -> tuple[int, str]:
    """Its code and what it complained of; it ends in time, and nothing of it is left."""
    began = time.monotonic()
    _, complaint = process.communicate(timeout=120)
    assert time.monotonic() - began < WITHIN
    time.sleep(1)
    assert [there[number] for number in there if processes.command(number)] == []
    return process.returncode, complaint


def test_signals_and_the_loss_of_ray(out: Path, finished_run: Path) -> None:
    process = begun(out)
    there = awaited(process, "gcs_server")  # Ray is just starting
    process.send_signal(signal.SIGTERM)
    assert ended(process, there) == (130, LINE)
    assert look(out)["ended"]["how"] == "interrupted"
    process = begun(out)
    there = awaited(process, "_UnitActor")  # a worker is at work
    (head,) = (number for number, command in there.items() if "gcs/gcs_server" in command)
    os.kill(head, signal.SIGKILL)
    assert ended(process, there) == (5, GONE)
    process = begun(out)
    there = awaited(process, "ray::")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert ended(process, there) == (130, LINE)
    assert fairsynth("run", *small_arguments(out)).returncode == 0
    assert essence(out) == essence(finished_run)

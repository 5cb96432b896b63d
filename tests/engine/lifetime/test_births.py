"""Workers that end when they start end the run, with what they said; those that are slow to start do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fairsynth
from fairsynth.engine.forks import server, worker
from fairsynth.engine.lifetime import births, processes
from fairsynth.engine.lifetime.births import Births

RAYLET, WORKER = 10, "python ray/_private/workers/default_worker.py --node-id=x"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The raylet's children, to be changed: their numbers and titles."""
    titles = {11: "ray::DashboardAgent", 12: "ray::RuntimeEnvAgent"}
    monkeypatch.setattr(processes, "children", lambda: {RAYLET: list(titles)})
    monkeypatch.setattr(processes, "command", titles.__getitem__)
    return titles


OWN = """[2026-11-29 20:00:00,123 I 4242 4242] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3
[2026-11-29 20:00:09,001 W 4242 4260] metric_exporter.cc:105: no agent yet
"""


def begin_and_end(seen: Births, there: dict[int, str], number: int) -> str:
    there[number] = WORKER
    seen.look()
    del there[number]
    return seen.look()


def test_workers_that_end_are_told_after_a_while(
    there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(births, "PATIENCE", 0.0)
    seen = Births(RAYLET, tmp_path / "raylet.err")
    assert seen.look() == ""
    assert begin_and_end(seen, there, 13) == "", "Ray starts another"
    (tmp_path / "raylet.err").write_text(OWN, "utf-8")
    told = begin_and_end(seen, there, 14)
    assert told == f"Ray's workers end as soon as they start: they say nothing; {tmp_path} has the logs"
    assert not seen.hurried
    (tmp_path / "raylet.err").write_text(f"Traceback ...\n  ImportError:  no numpy \n\n{OWN}", "utf-8")
    assert seen.look() == "Ray's workers end as soon as they start: ImportError: no numpy" and seen.hurried


def test_those_that_ended_before_anybody_looked_are_known_by_their_words(
    there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(births.time, "monotonic", lambda: clock[0])
    (tmp_path / "raylet.err").write_text(f"{OWN}ImportError: no numpy\n", "utf-8")
    seen, slow = (Births(RAYLET, tmp_path / "raylet.err") for _ in range(2))
    assert seen.look() == ""
    clock[0] += births.PATIENCE - 1
    assert seen.look() == ""
    there[13] = WORKER
    assert slow.look() == "", "one is starting"
    clock[0] += births.PATIENCE
    assert slow.look() == "", "and lives still"
    del there[13]
    assert seen.look() == "Ray's workers end as soon as they start: ImportError: no numpy"


def test_a_slow_start_is_none_that_ends(there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(births.time, "monotonic", lambda: clock[0])
    (tmp_path / "raylet.err").write_text(f"{OWN}sitecustomize: a warning of the machine's\n", "utf-8")
    seen = Births(RAYLET, tmp_path / "raylet.err")
    clock[0] += 300
    assert seen.look() == "", "the driver has asked for no worker yet"
    there.update({number: WORKER for number in range(100, 164)})
    seen.look()
    clock[0] += 20
    for number in (100, 101):  # the kernel ended these, for want of memory
        del there[number]
    assert seen.look() == ""
    clock[0] += 35
    assert seen.look() == "", "the others live for longer than those did"
    clock[0] += 5
    there.clear()
    there.update({number: WORKER for number in range(200, 264)})
    assert seen.look() == "", "the raylet ends those that take longer than a minute, and starts others"


def test_one_that_comes_up_is_enough(there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births, "PATIENCE", 0.0)
    seen = Births(RAYLET, tmp_path / "raylet.err")
    there[13] = WORKER
    seen.look()
    there[13] = "ray::IDLE"
    assert seen.look() == "" and seen.well


def test_patience_counts_from_the_first_start(there: dict[int, str], tmp_path: Path) -> None:
    (tmp_path / "raylet.err").write_text("a warning\n", "utf-8")
    there[13] = WORKER
    assert Births(RAYLET, tmp_path / "raylet.err").look() == ""


BROKEN = """
import os, sys
if any("default_worker" in word for word in sys.orig_argv):
    sys.stderr.write("ImportError: broken on purpose\\n")
    os._exit(3)
"""
SESSION = """
import sys
from fairsynth import console, interrupts
from fairsynth.config import ResourcesConfig
from fairsynth.engine.each_node import on_each_node
from fairsynth.engine.forks import server, worker
from fairsynth.engine.lifetime import births, processes
from fairsynth.engine.session import session_of

births.PATIENCE = 2

def work():
    with session_of(ResourcesConfig(workers=1)) as session:
        session.connect()
        print(*processes.rays(), flush=True)
        on_each_node(session, int, 100)
    return 0

interrupts.catch()
console.leave(console.guarded(work))
"""


@pytest.mark.slow
def test_a_command_ends_then_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN, "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    path = f"{Path(fairsynth.__file__).parents[1]}:{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", SESSION], env=environment | {"PYTHONPATH": path}, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr[-2000:]
    assert done.stderr.startswith(
        "fairsynth: Ray's workers end as soon as they start: ImportError: broken on purpose; "
    )
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("finished work is kept, the same command goes on\n")
    assert done.stdout and [number for number in done.stdout.split() if processes.command(int(number))] == []


def test_who_asks_for_a_fork_and_has_one_has_not_ended(
    there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script that Ray starts ends when its worker is forked; forks are another process's children."""
    monkeypatch.setattr(births, "PATIENCE", 0.0)
    forks = {31: f"python {server.__file__} /ray/s /ray/default_worker.py"}
    titles = there | {30: f"python {server.__file__} /ray/s /ray/default_worker.py"}
    monkeypatch.setattr(processes, "children", lambda: {RAYLET: list(there), os.getpid(): [30], 30: list(forks)})
    monkeypatch.setattr(processes, "command", lambda number: (titles | there | forks)[number])
    seen = Births(RAYLET, tmp_path / "raylet.err")
    for number in (13, 14, 15):
        there[number] = f"python {worker.__file__} /ray/default_worker.py"
        assert seen.look() == ""
        del there[number]
        assert seen.look() == "", "it has got what it asked for"
    assert not seen.well
    forks[31] = "ray::IDLE"
    assert seen.look() == "" and seen.well

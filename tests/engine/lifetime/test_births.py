"""Workers that end when they start end the run, with what they said; those that are slow to start do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fairsynth
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


def test_workers_that_end_are_told_after_a_while(
    there: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(births, "PATIENCE", 0.0)
    seen = Births(RAYLET, tmp_path / "raylet.err")
    assert seen.look() == ""
    there[13] = WORKER
    assert seen.look() == "", "it may only be slow"
    del there[13]
    assert seen.look() == f"Ray's workers end as soon as they start: they say nothing; {tmp_path} has the logs"
    (tmp_path / "raylet.err").write_text("Traceback ...\n  ImportError:  no numpy \n\n", "utf-8")
    assert seen.look() == "Ray's workers end as soon as they start: ImportError: no numpy"


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

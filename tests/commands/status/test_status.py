"""fairsynth status: where a run is, whether it lives, and what to type next; whoever asks disturbs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairsynth.artifacts import STAGES, write_json
from fairsynth.commands.status.look import look
from fairsynth.commands.status.text import duration
from fairsynth.lock import locked
from tests.support.calling import call, refused
from tests.watching.leftovers import finish, hold, progress

DONE = {"state": "finished", "seconds": 60.0, "summary": "9 images"}


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with what changes when somebody touches it."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [root, *root.rglob("*")]}


def told(root: Path) -> str:
    before = snapshot(root)
    code, out, err = call("status", root)
    assert (code, err) == (0, "") and snapshot(root) == before, "nothing is written"
    return out


def test_the_stages_are_the_pipelines() -> None:
    from fairsynth.pipeline import STAGES as all_stages

    assert list(all_stages) == list(STAGES)


def test_a_run_at_work_is_told_with_its_stage_and_what_is_left(tmp_path: Path) -> None:
    now = {"stage": "embed", "done": 3, "total": 12, "rate": 0.05, "seconds_left": 190.0, "workers": 4}
    stages = {"ingest": DONE, "embed": {"state": "running"}}
    progress(tmp_path, stages=stages, now=now, failures={"quarantined": 7, "retried": 2}, worker_hours=1.25)
    hold(tmp_path)
    lines = told(tmp_path).splitlines()
    assert lines[0].startswith(f"{tmp_path}: running, process {os.getpid()} on ") and "sign of life 0 s ago" in lines[0]
    assert lines[1:3] == [
        "  ingest     done   9 images (1 min)",
        "  embed      now    3/12, 0.05/s, 3 min 10 s left, 4 workers",
    ]
    assert [line.split() for line in lines[3:10]] == [[name, "-"] for name in STAGES[2:]]
    assert lines[10:] == [
        "7 images quarantined (fairsynth inspect DATA names them)",
        f"failures: 2, after which work was tried again (fairsynth logs {tmp_path} --failed)",
        "worker-hours of the last command: 1.25",
        f"what it printed: fairsynth logs {tmp_path}",
    ]


def test_adapters_under_way_are_told_by_their_parts(tmp_path: Path) -> None:
    now = {"stage": "finetune", "done": 3, "reached": 3.47, "total": 11, "rate": 0.05, "seconds_left": 150.6}
    progress(tmp_path, stages={"finetune": {"state": "running"}}, now=now | {"workers": 1})
    hold(tmp_path)
    assert "  finetune   now    3.4/11, 0.05/s, 2 min 31 s left, 1 worker\n" in told(tmp_path)


def test_the_lock_is_not_taken_from_a_run(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert look(tmp_path)["state"] == "running"
        assert look(tmp_path)["process"]["pid"] == os.getpid()
    (tmp_path / "stages").mkdir()
    assert look(tmp_path)["process"] is None
    with locked(tmp_path):
        pass


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    hold(tmp_path, pid=child.pid)
    progress(
        tmp_path, pid=child.pid, stages={"ingest": DONE, "embed": {"state": "running"}}, updated_at=time.time() - 5
    )
    out = told(tmp_path)
    assert out.splitlines()[0] == f"{tmp_path}: not finished, nobody is at work in it"
    assert "  embed      begun\n" in out
    assert "to go on (in /home/me): fairsynth run --preset demo --out runs/x\n" in out


@pytest.mark.parametrize(
    ("ago", "state", "said"),
    [(20, "running", "last sign of life 20 s ago"), (7200, "silent", "gave no sign of life for 2 h")],
)
def test_of_another_machines_process_its_last_sign_tells(tmp_path: Path, ago: float, state: str, said: str) -> None:
    hold(tmp_path, pid=1, host="node-7", since=time.time() - 9000)
    progress(tmp_path, pid=1, host="node-7", updated_at=time.time() - ago, stages={"ingest": {"state": "running"}})
    assert look(tmp_path)["state"] == state
    out = told(tmp_path)
    assert "process 1 on node-7" in out and said in out and ("the same command goes on" in out) == (state == "silent")


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"how": "failed", "why": "no images\x1b[2J"}, "not finished, it failed: no images?[2J"),
        ({"how": "interrupted", "why": ""}, "not finished, interrupted"),
        ({"how": "budget", "why": "1 worker-hour is used"}, "stopped by its budget: 1 worker-hour is used"),
    ],
)
def test_how_it_ended_and_the_command_to_go_on(tmp_path: Path, ended: dict[str, str], said: str) -> None:
    progress(tmp_path, ended=ended, stages={"ingest": DONE, "embed": {"state": "stopped"}})
    finish(tmp_path, "report")  # of another config, long ago
    out = told(tmp_path)
    assert said in out.splitlines()[0] and "\x1b" not in out
    assert "to go on (in /home/me): fairsynth run" in out and "  report     -\n" in out


def test_a_finished_run_is_told_by_its_verdict_with_or_without_a_record(tmp_path: Path) -> None:
    for stage in STAGES:
        finish(tmp_path, stage, seconds=3700)
    finish(tmp_path, "cluster", "the newest", version=2)
    write_json(tmp_path / "report.json", {"verdict": "improved", "verdict_why": "really"})
    (tmp_path / "report.html").write_text("")
    out = told(tmp_path)
    assert out.splitlines()[0] == f"{tmp_path}: finished, verdict: improved (really)"
    assert "  ingest     done   ingest is done (1 h 1 min)" in out and "the newest" in out
    assert out.splitlines()[-1] == f"open {tmp_path / 'report.html'}"
    progress(tmp_path, ended={"how": "finished", "why": ""}, stages={"ingest": DONE})
    assert told(tmp_path).splitlines()[0] == out.splitlines()[0]


@pytest.mark.parametrize(
    ("command", "goes_on"),
    [
        ("fairsynth cluster --preset demo --out runs/cluster", "fairsynth run --preset demo --out runs/cluster"),
        ("python -m jobs.embed c.yaml", "python -m jobs.pipeline c.yaml"),
        ("fairsynth run --preset demo", "fairsynth run --preset demo"),
    ],
)
def test_behind_a_stage_that_ended_well_the_run_goes_on(tmp_path: Path, command: str, goes_on: str) -> None:
    stages = {"ingest": DONE, "embed": DONE}
    progress(tmp_path, command=command, stages=stages, ended={"how": "finished", "why": ""})
    assert f"to go on (in /home/me): {goes_on}\n" in told(tmp_path)
    progress(tmp_path, command=command, stages=stages, ended={"how": "failed", "why": "no images"})
    assert f"to go on (in /home/me): {command}\n" in told(tmp_path)


def test_images_set_aside_are_no_failures(tmp_path: Path) -> None:
    for stage in STAGES:
        finish(tmp_path, stage)
    progress(tmp_path, ended={"how": "finished", "why": ""}, failures={"quarantined": 1, "retried": 0})
    out = told(tmp_path)
    assert "1 image quarantined (fairsynth inspect DATA names them)" in out and "failures" not in out


def test_a_job_goes_on_by_another_job(tmp_path: Path) -> None:
    folder = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1f2e3d"
    command = "python -m jobs.pipeline --preset demo --out /mnt/shared/x"
    progress(tmp_path, stages={"ingest": DONE}, folder=folder, command=command)
    out = told(tmp_path)
    assert f"to go on, submit the job again with the same options: {command}\n" in out and "_ray_pkg_" not in out


def test_a_bench_is_told_by_its_cells(tmp_path: Path) -> None:
    cell = {"number": 3, "total": 8, "title": "99 %, clustered, repetition 1"}
    progress(tmp_path, cell=cell, stages={"tune": {"state": "running"}})
    hold(tmp_path)
    assert "bench: 2 of 8 cells done; now: 99 %, clustered, repetition 1" in told(tmp_path)
    (tmp_path / ".lock").write_text("")
    (tmp_path / "bench").mkdir()
    progress(tmp_path, cell=cell | {"number": 8}, ended={"how": "finished", "why": ""})
    out = told(tmp_path)
    assert out.splitlines()[0] == f"{tmp_path}: finished" and "bench: 8 of 8 cells done" in out
    assert f"the table: {tmp_path / 'bench' / 'table.md'}" in out


def test_scripts_get_json(tmp_path: Path) -> None:
    progress(tmp_path, stages={"ingest": DONE})
    code, out, _ = call("status", tmp_path, "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0 and found["state"] == "stopped" and found["out"] == str(tmp_path)
    assert [stage["name"] for stage in found["stages"]] == list(STAGES)


def test_what_is_no_run_is_refused_with_what_to_type(tmp_path: Path) -> None:
    for command in ("status", "logs"):
        assert "has no run in it; give the output folder of a run" in refused(call(command, tmp_path))
        assert "is not there; give the output folder of a run" in refused(call(command, tmp_path / "typo"))


@pytest.mark.parametrize("broken", ["{", "[]", '{"stages": 5, "cell": "x", "now": [], "failures": 1, "ended": "x"}'])
def test_a_broken_record_is_as_none(tmp_path: Path, broken: str) -> None:
    finish(tmp_path, "ingest")
    (tmp_path / "progress.json").write_text(broken)
    (tmp_path / ".lock").write_text(broken)
    assert "  ingest     done   ingest is done (1 min)\n" in told(tmp_path)


def test_it_loads_neither_ray_nor_torch(tmp_path: Path) -> None:
    finish(tmp_path, "ingest")
    code = (
        "import sys; from fairsynth.cli import main; assert main(['status', sys.argv[1]]) == 0\n"
        "assert main(['logs', sys.argv[1]]) == 0\n"
        "print({'ray', 'torch', 'numpy', 'pyarrow', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (9000, "2 h 30 min"), (100_000, "1 d 3 h")],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

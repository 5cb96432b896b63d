"""``fairsynth.run``: settings by the command line's precedence; it resumes, and leaves the process as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fairsynth as fs
from fairsynth.api.running import _settled
from fairsynth.lock import locked
from tests.conftest import SMALL
from tests.support.structure import ROOT


def test_the_last_word_is_that_of_overrides_then_settings_then_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("cluster: {k: 7, restarts: 3}\nout: there\n", "utf-8")
    usual = _settled("demo", None, None, None)
    assert (usual.data.format, usual.cluster.k) == ("demo", 5)
    by_file = _settled(file, "demo", tmp_path / "out", {"cluster.k": 9})
    assert (by_file.cluster.k, by_file.cluster.restarts, by_file.data.format) == (9, 3, "demo")
    assert by_file.out == str(tmp_path / "out") and _settled(str(file), "demo", None, None).out == "there"
    settings = {"cluster": {"k": 7, "restarts": 3}, "tune.trials": 4, "data": {"root": tmp_path}}
    by_settings = _settled(settings, "demo", None, {"cluster.k": 9})
    assert (by_settings.cluster.k, by_settings.cluster.restarts, by_settings.tune.trials) == (9, 3, 4)
    assert by_settings.data.root == str(tmp_path) and by_settings.cluster.min_size == usual.cluster.min_size
    assert _settled(by_settings, None, None, None) is by_settings
    assert _settled(by_settings, None, "x", {"seed": 3}).model_dump() == by_settings.model_dump() | {
        "out": "x",
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (((), {}), "nothing to run: give a preset"),
        (((), {"out": "x"}), "nothing to run"),
        ((("dmeo",), {}), "'dmeo' is neither a preset (did you mean 'demo'?) nor a YAML file"),
        (((), {"preset": "dmeo"}), "unknown preset 'dmeo'"),
        ((("nothing.yaml",), {}), "cannot read the config nothing.yaml"),
        ((({"cluster.kk": 5},), {"preset": "demo"}), "unknown key 'cluster.kk' (did you mean 'cluster.k'?)"),
        ((({"cluster": {"kk": 5}},), {}), "unknown key 'cluster.kk'"),
        ((("demo",), {"overrides": {"cluster.k": "five"}}), "cluster.k"),
        ((("demo",), {"overrides": {"data.root": "nowhere", "data.format": "folder"}}), "nowhere"),
        ((([1],), {}), "config is a list; give the name of a preset"),
        (((fs.RunConfig(),), {"preset": "demo"}), "a RunConfig is whole"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    given: tuple[tuple[Any, ...], dict[str, Any]], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((fs.ConfigError, fs.DataError)) as error:
        fs.run(*given[0], **given[1])
    assert told in str(error.value) and not [*tmp_path.iterdir()]


def test_a_folder_that_another_run_holds_is_left_alone(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(fs.OutputLockedError, match="is in use by"):
        fs.run("demo", out=tmp_path, say=None)


@pytest.mark.slow
def test_a_finished_run_is_opened_and_nothing_else_is_done(finished_run: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "out", list[str]()
    shutil.copytree(finished_run, out)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    run = fs.run("demo", out=out, overrides=SMALL, say=lines.append)
    assert run.root == out.resolve() and run.report.methods.keys() >= {"erm", "fairsynth"}
    assert (
        lines[-1].startswith("everything was finished before; nothing to do")
        and f"report: {out / 'report.html'}" in lines
    )
    assert str(run.report).split("\n") == lines[-len(str(run.report).split("\n")) - 2 : -2]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


INTERRUPTED = """
import glob, os, signal, sys, threading, time
import fairsynth as fs
from fairsynth.engine.session import is_connected

class Enough(Exception):
    pass

def interrupt():  # while units are made
    while not glob.glob(sys.argv[1] + "/stages/embed-*/units/*"):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

def say(line):
    print(line, flush=True)
    if line.startswith("embed"):
        raise Enough

def ended(how):
    now = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    print(how, is_connected(), now == handlers, flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run in the background
handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
threading.Thread(target=interrupt, daemon=True).start()
try:
    fs.run("demo", out=sys.argv[1], say=say)
except KeyboardInterrupt:
    ended("interrupted")
try:
    fs.run("demo", out=sys.argv[1], say=say)
except Enough:
    ended("enough")
"""


@pytest.mark.slow
def test_an_interrupt_ends_ray_and_the_next_run_of_the_process_goes_on(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "out")],
        capture_output=True, text=True, timeout=400, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    lines = result.stdout.split("\n")
    assert lines[0].startswith("ingest     2994 images"), result.stdout + result.stderr[-3000:]
    assert lines[1:3] == ["interrupted False True", f"ingest     nothing to do: {lines[0][11:].rpartition(' (')[0]}"]
    assert lines[3].startswith("embed      "), result.stderr[-3000:]
    assert "nothing to do" not in lines[3]
    assert lines[4:] == ["enough False True", ""], result.stdout + result.stderr[-3000:]

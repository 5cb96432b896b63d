"""A worker that stands still is replaced and its unit made elsewhere; one that is slow is not; what hangs again and again ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fairsynth
from fairsynth.engine.lifetime import beats, hangs, processes
from fairsynth.engine.lifetime.beats import Beats, interval
from fairsynth.errors import InfrastructureError

# Fault case 66: a worker that hangs.
SESSION = """
import json, os, signal, sys, time
from pathlib import Path

import pyarrow as pa

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.errors import InfrastructureError

root = Path(sys.argv[1])

def make():
    def work(task):
        name = task["name"]
        tries = root / f"tries-{name}"
        with tries.open("a") as file:
            file.write("x")
        if name == "stands" and tries.stat().st_size == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        ends = time.monotonic() + 4
        while name == "slow" and time.monotonic() < ends:
            sum(range(10000))
        if name == "hangs":
            time.sleep(600)
        if name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"t": pa.table({"name": [name]})}
    return work

told = []
with session_of(ResourcesConfig(workers=1, hang_seconds=2), root) as session:
    made = run_units(session, "good", Units(root / "good"), ["stands", "slow"], make, models=False).made
    for unit in ("hangs", "dies"):
        try:
            run_units(session, unit, Units(root / unit), [unit], make, models=False)
        except InfrastructureError as error:
            told.append(str(error))
tries = {name: (root / f"tries-{name}").stat().st_size for name in ("stands", "slow", "hangs", "dies")}
print(json.dumps({"made": made, "told": told, "tries": tries}))
"""


@pytest.mark.slow
def test_workers_that_hang_are_replaced_and_a_unit_that_ends_them_ends_the_run(tmp_path: Path) -> None:
    here = str(Path(fairsynth.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(tmp_path)], env=environment | {"PYTHONPATH": here}, capture_output=True,
        text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    tries = {"stands": 2, "slow": 1, "hangs": beats.MOST_HANGS, "dies": beats.MOST_DEATHS}
    assert found["made"] == 2 and found["tries"] == tries
    hung, died = found["told"]
    assert "3 workers in turn made no progress on unit hangs for 2 seconds (resources.hang_seconds)" in hung
    assert "8 workers in turn ended while they were at unit dies; most often memory runs out" in died
    log = (tmp_path / "logs" / "failures.jsonl").read_text("utf-8")
    assert log.count("its worker made no progress for 2 seconds and was replaced") == 4


def test_a_unit_that_workers_hung_on_is_begun_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[list[str]]()
    monkeypatch.setattr(Beats, "_say", lambda self: said.append(list(self._units)))
    monkeypatch.setattr(Beats, "_look", lambda self: self._hung.update(bad=beats.MOST_HANGS, late=beats.MOST_HANGS - 1))
    one = Beats("stage", 600)
    refused = pytest.raises(InfrastructureError, match="3 workers in turn made no progress on unit bad for 600 seconds")
    with one.at_work("good"), one.at_work("late"), refused:
        one.begin("bad")
    assert said[-1] == ["good", "late"] and one._units == []
    Beats("stage", 0).begin("bad")


def test_looks_are_as_close_as_the_time_asks_for() -> None:
    assert [interval(seconds) for seconds in (1, 20, 600)] == [0.2, 2.0, 15.0]


def test_only_the_process_that_was_seen_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        start = processes.began(process.pid)
        assert start and not hangs.end_process(process.pid, "1") and process.poll() is None
        assert hangs.end_process(process.pid, start) and process.wait(20) == -9
    assert processes.began(process.pid) == "" and not hangs.end_process(process.pid, "")


def test_workers_that_train_together_hang_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.experimental import internal_kv

    kept = dict[bytes, str]()
    clock = [1000.0]
    ray = SimpleNamespace(get_runtime_context=lambda: SimpleNamespace(get_job_id=lambda: "1"))
    monkeypatch.setattr(internal_kv, "_internal_kv_put", lambda name, text, namespace: kept.update({name: text}))
    monkeypatch.setattr(hangs, "read", lambda name, otherwise: json.loads(kept.get(name, json.dumps(otherwise))))
    monkeypatch.setattr(hangs, "_ended", lambda *_: True)
    monkeypatch.setattr(hangs.time, "monotonic", lambda: clock[0])
    watch = hangs._Watch("finetune", 600, tmp_path)
    for _ in range(2):
        for rank in range(4):
            watch.replace(ray, {"node": "n", "pid": rank, "began": "1", "units": ["one", "two"]})
            clock[0] += 15  # the next look
        clock[0] += 600
    assert json.loads(kept[beats.hung_key(ray, "finetune")]) == {"one": 2, "two": 2}
    assert len((tmp_path / "logs" / "failures.jsonl").read_text("utf-8").splitlines()) == 4


def test_nobody_starts_a_ray_by_giving_signs_or_looking_for_them(tmp_path: Path) -> None:
    code = (
        "import ray\n"
        "from fairsynth.engine.lifetime.beats import Beats\n"
        "from fairsynth.engine.lifetime.hangs import _Watch\n"
        "signs = Beats('embed', 600)\n"
        "signs.begin('a'); signs._say(); signs._look(); _Watch('embed', 600, None).look()\n"
        "print(ray.is_initialized())\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(fairsynth.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr

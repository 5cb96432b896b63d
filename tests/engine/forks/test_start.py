"""Workers of a local Ray are forks of one process, start as always where that is gone, and leave nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fairsynth
from fairsynth.engine.forks import start
from fairsynth.engine.lifetime import processes
from tests.engine.lifetime.test_start import environment

where_forks_are = pytest.mark.skipif(not start.can_fork(), reason="workers are not forked here")
SESSION = """
import json, os, signal, sys, time
from fairsynth.config import ResourcesConfig
from fairsynth.engine.forks import server
from fairsynth.engine.lifetime import processes
from fairsynth.engine.session import session_of

with session_of(ResourcesConfig(fork_workers=sys.argv[1])) as session:
    session.connect()
    import ray
    waits = len(sys.argv) > 2

    @ray.remote(num_cpus=1)
    class Worker:
        def tell(self):
            import gc, numpy, torch
            drawn = [torch.rand(1).item(), int(numpy.random.randint(2**31))]
            return [os.getpid(), os.getppid(), *drawn, gc.isenabled(), torch.get_num_threads()]

    def started():
        workers = [Worker.remote() for _ in range(2)]
        told = ray.get([one.tell.remote() for one in workers])
        for one in [] if waits else workers:
            ray.kill(one)
        return told

    forks = [one for one in processes.children()[os.getpid()] if server.__file__ in processes.command(one)]
    first = started()
    for one in [] if waits else forks:
        os.kill(one, signal.SIGKILL)
    print(json.dumps({"forks": forks, "first": first, "then": started(), "all": processes.rays()}), flush=True)
    if waits:
        time.sleep(600)
"""


def run(*words: str, ray: Path, code: str = SESSION, **variables: str) -> dict[str, list[list[float]]]:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(RAY_TMPDIR=str(ray)) | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def gone(numbers: list[int]) -> None:
    """Wait until none of these processes is there. One that nobody waits for has no words."""
    until = time.monotonic() + 45
    while left := [one for one in numbers if processes.command(one)]:
        assert time.monotonic() < until, [processes.command(one) for one in left]
        time.sleep(0.2)


@pytest.mark.slow
@where_forks_are
def test_workers_are_forks(ray_tmp: Path) -> None:
    told = run("auto", ray=ray_tmp)
    (server,) = told["forks"]
    first, then = told["first"], told["then"]
    assert {parent for _, parent, *_ in first} == {server}
    assert server not in {parent for _, parent, *_ in then}, "the server was killed, and workers start as always"
    assert len({number for number, *_ in first + then}) == 4
    # What workers draw without a seed of their own, they draw each for itself.
    assert len({drawn for _, _, drawn, *_ in first + then}) == 4
    assert len({drawn for _, _, _, drawn, *_ in first + then}) == 4
    assert {threads for *_, threads in first + then} == {1}
    assert all(collects for *_, collects, _ in first + then)
    gone([int(one) for one in told["all"]])  # type: ignore[call-overload]
    assert not list((ray_tmp / "ray").glob("forks-*"))


@pytest.mark.slow
@where_forks_are
def test_a_checkout_that_is_found_by_the_program_alone(ray_tmp: Path) -> None:
    """Neither installed nor in PYTHONPATH: the driver's own path leads there."""
    here = str(Path(fairsynth.__file__).parents[1])
    told = run(
        "auto",
        ray=ray_tmp,
        code=f"import sys; sys.path.insert(0, {here!r})\n{SESSION}",
        PYTHONPATH="",
    )
    assert {parent for _, parent, *_ in told["first"]} == {*told["forks"]}


@pytest.mark.slow
def test_workers_need_not_be(ray_tmp: Path) -> None:
    told = run("never", ray=ray_tmp)
    assert told["forks"] == [] and len({number for number, *_ in told["first"] + told["then"]}) == 4


@pytest.mark.slow
@where_forks_are
def test_nothing_outlives_a_killed_driver(ray_tmp: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, "auto", "wait"],
        env=environment(RAY_TMPDIR=str(ray_tmp)),
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        told = json.loads(driver.stdout.readline())
        driver.send_signal(signal.SIGKILL)
    gone([*told["forks"], *(int(number) for number, *_ in told["first"] + told["then"])])


def test_graphics_cards_are_not_for_forks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start, "_CARDS", (str(tmp_path / "none"),))
    assert start.can_fork() == (sys.platform == "linux")
    monkeypatch.setattr(start, "_CARDS", (str(tmp_path),))
    assert not start.can_fork()

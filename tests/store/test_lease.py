"""One run at a time in a bucket, whatever becomes of the runs before; against a real S3 service."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth import lock
from fairsynth.errors import ConfigError, InfrastructureError, OutputLockedError, TakenOverError
from fairsynth.store.lease import KEY, Lease, check_free, owner
from fairsynth.store.objects import Objects
from fairsynth.store.place import output_root
from fairsynth.store.tenant import Tenant, here, started
from tests.support.store.fault_proxy import FaultProxy
from tests.support.store.s3_server import Bucket

# Fault case 59: an owner that is gone, and one that wakes.
ROOT = Path(__file__).parents[2]
SECONDS = 1.5
HOLD = """
import sys
from fairsynth.store.lease import Lease
from fairsynth.store.objects import Objects
with Lease(Objects.at(sys.argv[1]), seconds=float(sys.argv[2])).held() as lease:
    print(lease.token, flush=True)
    try:
        for line in sys.stdin:
            try:
                lease.fence.check()
                print("mine", flush=True)
            except BaseException as error:
                print(type(error).__name__, error, flush=True)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def objects(bucket: Bucket) -> Objects:
    return Objects.at(bucket.uri())


def hold(uri: str, seconds: float = SECONDS) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, uri, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert ":" in process.stdout.readline()
    return process


@pytest.fixture
def holder(objects: Objects) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the output until its input ends, and answers each line by what ``check`` says."""
    process = hold(objects.uri)
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline()


def elsewhere(objects: Objects) -> None:
    """The lease's owner now lives on another machine, as far as this one can see."""
    while True:
        found = objects.read_versioned(KEY)
        assert found is not None
        moved = json.loads(found[0]) | {"place": "another kernel", "host": "far\x1baway"}
        if objects.swap(KEY, json.dumps(moved).encode(), found[1]) is not None:
            return


def test_the_second_run_is_told_who_holds_the_output(objects: Objects, holder: subprocess.Popen[str]) -> None:
    start = time.monotonic()
    with pytest.raises(OutputLockedError) as caught, Lease(objects).held():
        pytest.fail("two runs in one output")
    assert caught.value.exit_code == 6 and time.monotonic() - start < SECONDS * 2
    assert f"{objects.address} is in use by process {holder.pid} on {socket.gethostname()} (for" in str(caught.value)
    with pytest.raises(OutputLockedError, match=f"process {holder.pid} "):
        check_free(objects)
    who = owner(objects)
    assert who is not None and who.pid == holder.pid and who.alive and abs(who.since - time.time()) < 60
    assert asked(holder) == "mine\n"


def test_it_is_free_after_the_owner_ended(objects: Objects, holder: subprocess.Popen[str]) -> None:
    holder.communicate(timeout=30)
    assert holder.returncode == 0 and owner(objects) is None
    check_free(objects)
    with Lease(objects).held() as lease:
        assert lease.token.endswith(":2")
    assert [entry.key for entry in objects.walk()] == [KEY]


def test_ctrl_c_gives_it_back(objects: Objects, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGINT)
    holder.communicate(timeout=30)
    assert owner(objects) is None


def test_a_killed_owner_of_this_machine_is_followed_at_once(objects: Objects, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(30)
    start = time.monotonic()
    check_free(objects)
    with Lease(objects).held() as lease:
        assert lease.token.endswith(":2") and time.monotonic() - start < SECONDS
        lease.fence.check()


def test_a_killed_owner_of_another_machine_is_followed_after_its_time(
    objects: Objects, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait(30)
    elsewhere(objects)
    told: list[str] = []
    start = time.monotonic()
    with Lease(objects, say=told.append).held() as lease:
        assert lease.token.endswith(":2") and time.monotonic() - start > SECONDS
    assert len(told) == 1 and "far?away" in told[0]


def test_one_waits_once_for_who_is_gone_and_is_told_so(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path))
    objects, root = Objects.at(bucket.uri()), output_root(bucket.uri())
    gone = Tenant("a" * 16, 17, "far", time.time(), "another kernel", "1", 1, 0, SECONDS)
    objects.write(KEY, gone.content())
    start = time.monotonic()
    lock.check_free(root)
    waited, start = time.monotonic() - start, time.monotonic()
    assert waited > SECONDS
    with lock.locked(root):
        assert time.monotonic() - start < SECONDS
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1 and "far" in said and "waiting for at most 2 s to see whether that run is alive" in said
    )
    # Who lives has another version.
    objects.write(KEY, Tenant("b" * 16, 17, "far", time.time(), "another kernel", "1", 9, 0, SECONDS).content())
    start = time.monotonic()
    lock.check_free(root)
    assert time.monotonic() - start > SECONDS


@pytest.mark.slow
def test_an_owner_that_slept_may_not_commit(objects: Objects, holder: subprocess.Popen[str]) -> None:
    assert asked(holder) == "mine\n"
    holder.send_signal(signal.SIGSTOP)
    elsewhere(objects)
    with Lease(objects, seconds=SECONDS).held() as lease:
        holder.send_signal(signal.SIGCONT)
        answer = asked(holder)
        assert answer.startswith(("TakenOverError", "InfrastructureError")) and "taken over" in answer
        time.sleep(SECONDS)
        answer = asked(holder)
        assert answer.startswith("TakenOverError another run has taken over") and f"process {os.getpid()} " in answer
        lease.fence.check()
    holder.communicate(timeout=30)
    check_free(objects)


def test_workers_of_a_run_that_lost_its_output_are_told(objects: Objects) -> None:
    first = Lease(objects, seconds=SECONDS)
    with first.held():
        fence = pickle.loads(pickle.dumps(first.fence))
        assert fence == first.fence and fence.token == first.token
        fence.check()
        objects.write(KEY, Tenant("other", 1, "there", 0.0, "", 0, 2, 0, 9.0).content())
        time.sleep(SECONDS * 0.1)
        with pytest.raises(TakenOverError, match=r"another run has taken over .*: process 1 on there"):
            fence.check()
        time.sleep(SECONDS)
        with pytest.raises(TakenOverError):
            first.fence.check()
    assert b'"other"' in (objects.read(KEY) or b"")  # it takes nobody else's name away


def test_a_lease_that_somebody_deleted_is_lost(objects: Objects) -> None:
    with Lease(objects, seconds=SECONDS).held() as lease:
        objects.delete([KEY])
        time.sleep(SECONDS * 0.1)
        with pytest.raises(TakenOverError, match="given up or removed"):
            lease.fence.check()


def test_of_many_runs_one_gets_the_output(objects: Objects) -> None:
    inside, refused, most = [0], [0], [0]
    guard, last = threading.Lock(), threading.Barrier(5)

    def run() -> None:
        last.wait()
        try:
            with Lease(objects, seconds=SECONDS).held() as lease:
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                lease.fence.check()
                time.sleep(SECONDS)
                with guard:
                    inside[0] -= 1
        except OutputLockedError:
            with guard:
                refused[0] += 1

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], refused[0]) == (1, 4)


@pytest.mark.slow
def test_a_lease_outlives_a_store_that_fails_now_and_then(bucket: Bucket) -> None:
    proxy = FaultProxy(bucket.endpoint, seed=3, unavailable=0.15, cut_before=0.05, cut_after=0.1, cut_during=0.05)
    with proxy.running():
        objects = Objects.at(bucket.uri("out", proxy.url))
        for turn in range(2):
            with Lease(objects, seconds=6).held() as lease:
                for _ in range(10):
                    lease.fence.check()
                    time.sleep(0.4)
                assert lease.token.endswith(f":{turn + 1}")
    assert owner(Objects.at(bucket.uri())) is None and sum(proxy.happened.values()) > proxy.happened["pass"] > 0


@pytest.mark.slow
def test_an_owner_that_cannot_renew_may_not_commit_until_it_can(bucket: Bucket) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        objects = Objects.at(bucket.uri("out", proxy.url))
        with Lease(objects, seconds=SECONDS).held() as lease:
            proxy.all = "unavailable"
            time.sleep(SECONDS * 1.2)
            with pytest.raises(InfrastructureError, match="503"):
                lease.fence.check(Objects(objects.address, 0.5))
            proxy.all = None
            time.sleep(SECONDS)
            lease.fence.check()  # nobody else has come


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_store_that_hangs(bucket: Bucket) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        start = 0.0
        with Lease(Objects.at(bucket.uri("out", proxy.url))).held():
            proxy.all, start = "hang", time.monotonic()
        assert time.monotonic() - start < 12


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[" * 20_000, b'{"id": "a", "pid": 1e999}'])
def test_a_damaged_lease_is_named(objects: Objects, content: bytes) -> None:
    objects.write(KEY, content)
    with pytest.raises(InfrastructureError, match=f"{KEY} is damaged"), Lease(objects).held():
        pytest.fail("nobody knows whether another run is there")


@pytest.mark.parametrize("conditions", ["ignore", "501"])
def test_a_store_without_conditional_writes_is_refused(bucket: Bucket, conditions: str) -> None:
    proxy = FaultProxy(bucket.endpoint, conditions=conditions)  # type: ignore[arg-type]
    with proxy.running():
        lease = Lease(Objects.at(bucket.uri("out", proxy.url)))
        with pytest.raises(ConfigError, match=f"{proxy.url}.* has no conditional writes"), lease.held():
            pytest.fail("two runs would not see each other")
    assert list(Objects.at(bucket.uri()).walk()) == []


def test_a_process_number_that_was_given_anew_is_not_the_owner() -> None:
    mine = Tenant("a", os.getpid(), "h", 0.0, here(), started(os.getpid()), 1, 0, 9.0)
    assert here() and not mine.is_gone and Tenant.parse(mine.content(), "x") == mine
    assert Tenant("a", os.getpid(), "h", 0.0, here(), mine.started - 1, 1, 0, 9.0).is_gone
    assert Tenant("a", -1, "h", 0.0, here(), 5, 1, 0, 9.0).is_gone
    assert not Tenant("a", 2**30, "h", 0.0, "", 5, 1, 0, 9.0).is_gone

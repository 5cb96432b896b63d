"""A local Ray starts in a folder whose path is short enough, and what keeps it from starting is told with exit code 5."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fairsynth.config import ResourcesConfig
from fairsynth.engine import ray_start
from fairsynth.engine.ray_start import ray_folder
from fairsynth.engine.session import Session
from fairsynth.errors import InfrastructureError
from tests.engine.answering import listening

LONG = "a" * 80


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, ray_tmp: Path) -> Path:
    """An empty folder in place of /tmp, and no variable that names another."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(ray_start, "_USUAL", str(ray_tmp))
    return ray_tmp


def refusal() -> str:
    """The message with which Ray's folder is refused."""
    with pytest.raises(InfrastructureError) as caught:
        ray_folder()
    return str(caught.value)


def test_the_folder_is_the_one_that_ray_would_take(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_folder() == str(short / "ray")
    monkeypatch.setenv("TMPDIR", str(short / "t"))
    assert ray_folder() == str(short / "t" / "ray")
    monkeypatch.setenv("RAY_TMPDIR", str(short / "r"))
    assert ray_folder() == str(short / "r" / "ray")
    assert [path.is_dir() for path in (short / "t" / "ray", short / "r" / "ray")] == [True, True]


def test_an_empty_or_relative_name_is_no_trap(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "")
    assert ray_folder() == str(short / "ray")
    monkeypatch.chdir(short)
    monkeypatch.setenv("TMPDIR", "here")
    assert ray_folder() == str(short / "here" / "ray")


def test_a_tmpdir_that_is_too_long_for_sockets_is_left_aside(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1234567)
    socket = "/ray/session_2026-11-28_10-00-00_123456_1234567/sockets/plasma_store"
    fits = str(short).ljust(107 - len(socket), "x")
    assert len(fits + socket) == 107
    monkeypatch.setenv("TMPDIR", fits)
    try:
        assert ray_folder() == f"{fits}/ray"
    finally:
        os.rmdir(f"{fits}/ray")
        os.rmdir(fits)
    for longer in (f"{fits}x", str(short / LONG), str(short / ("ä" * 20))):
        monkeypatch.setenv("TMPDIR", longer)
        assert ray_folder() == str(short / "ray")
        assert not os.path.exists(longer)


def test_a_long_folder_that_was_asked_for_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short / LONG))
    assert f"RAY_TMPDIR is {short / LONG}, which is too long for Ray's sockets" in refusal()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_that_cannot_be_written_is_refused(
    variable: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "file").write_text("", "utf-8")
    monkeypatch.setenv(variable, str(short / "file"))
    assert refusal() == (
        f"a local Ray cannot write to {short}/file/ray: Not a directory: {short}/file/ray; "
        "set RAY_TMPDIR to a folder that can be written, with a short path"
    )


FAILURES: dict[str, tuple[Exception, str]] = {
    "full": (
        OSError(errno.ENOSPC, "No space left on device", "/dev/shm/x"),
        "a local Ray did not start: No space left on device: /dev/shm/x; free some space, or set RAY_TMPDIR",
    ),
    "handles": (OSError(errno.EMFILE, "Too many open files"), "Too many open files; raise the limit of open files"),
    "socket": (OSError("validate_socket_filename failed"), "validate_socket_filename failed; set RAY_TMPDIR to a"),
    "slow": (
        Exception("The current node timed out during startup. This could happen because ... overloaded."),
        "did not start: The current node timed out during startup. This could happen because ... overloaded; if the "
        "machine is busy, the same command may succeed later",
    ),
    "other": (AssertionError(), "a local Ray did not start: AssertionError; if the machine is busy"),
}


def connected(error: Exception, monkeypatch: pytest.MonkeyPatch, written: bytes = b"") -> str:
    """What is told if Ray fails so, with that on stderr."""

    def init(**_: Any) -> NoReturn:
        os.write(2, written)
        raise error

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InfrastructureError) as caught:
        Session(ResourcesConfig()).connect()
    return str(caught.value)


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_keeps_ray_from_starting_is_told(failure: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, told = FAILURES[failure]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert told in connected(error, monkeypatch)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """RAY_ADDRESS of somebody who answers, by a name and a password."""
    with listening() as where:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://me:verysecret@{where}")
        yield where


TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the head's token"


@pytest.mark.parametrize("error", [ConnectionError("no answer"), OSError("no answer"), Exception("no answer.")])
def test_a_cluster_that_cannot_be_joined_is_named(error: Exception, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = connected(error, monkeypatch)
    assert told.startswith(f"cannot connect to {head}: no answer; if the cluster asks for a token, {TOKEN}")


def test_a_refused_token_is_told_though_ray_writes_it_to_stderr_alone(
    head: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written = b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken: Authentication token is missing\n"
    told = connected(ConnectionError("Failed to connect"), monkeypatch, written)
    assert told.startswith(f"cannot connect to {head}: the cluster refused the token, or asks for one; {TOKEN}")
    os.write(2, b"later")
    assert capfd.readouterr().err == "later", "what Ray writes is kept back, and stderr is there again"


UNIT = """
import os, sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine import ray_start
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units

def make():
    return lambda task: {"t": pa.table({"name": [task["name"]]})}

units = Units(Path(sys.argv[1]))
with session_of(ResourcesConfig(workers=1)) as session:
    assert run_units(session, "tiny", units, ["one"], make, models=False).made == 1
    import ray
    node = ray._private.worker.global_worker.node
    expected = os.path.join(node.temp_dir, ray_start._SOCKET.format(os.getpid()))
    assert len(node.plasma_store_socket_name) == len(expected), node.plasma_store_socket_name
    print(node.temp_dir, pq.read_table(units["one"] / "t.parquet")["name"].to_pylist())
"""


@pytest.mark.slow
def test_ray_starts_where_a_scheduler_sets_a_long_tmpdir(tmp_path: Path) -> None:
    scratch = tmp_path / LONG
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_TMPDIR", "RAY_ADDRESS")}
    done = subprocess.run(
        [sys.executable, "-c", UNIT, str(tmp_path / "units")],
        env=environment | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[-2] == "/tmp/ray ['one']"

"""The fork server forks what a request asks for, and nothing that a process of its own would do otherwise."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth.engine.forks import server, worker

ENVIRONMENT = {"PATH": "/bin", "OMP_NUM_THREADS": "1"}
FILES = 700
WORDS = ["/ray/default_worker.py", "--worker-id=1", "--language=PYTHON"]


def fits(words: list[str] | None = None, **more: str) -> bool:
    request = {"words": WORDS + (words or []), "environment": ENVIRONMENT | more}
    return server.fits(request, ENVIRONMENT)


def context(**values: object) -> list[str]:
    return [f"--serialized-runtime-env-context={json.dumps(values)}"]


def test_what_a_fork_can_be() -> None:
    assert fits()
    assert fits(SPT_NOENV="1"), "Ray sets it"
    assert fits(context(env_vars={"PL_DISABLE_FORK": "1"}, py_executable=sys.executable, command_prefix=[]))


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONPATH", "LD_PRELOAD", "RAY_JOB_ID"])
def test_an_environment_of_its_own_is_not_forked(name: str) -> None:
    assert not fits(**{name: "2"})
    assert not fits(context(env_vars={name: "2"}))


def test_another_program_is_not_forked() -> None:
    assert not fits(context(py_executable="/usr/bin/python"))
    assert not fits(context(command_prefix=["nice", "-n", "19"]))


def its_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server that has imported nothing, and forks for the processes of this test."""
    folder = tmp_path / "f"
    folder.mkdir()
    code = f"""
import sys
from fairsynth.engine.forks import server
server._BEFORE_RAY, server._WITH_RAY = (), ("ray",)
server.main({str(folder / "s")!r})
"""
    environment = its_environment()
    monkeypatch.setenv(worker.ADDRESS, str(folder / "s"))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(json.dumps(environment).encode() + b"\n")
    process.stdin.flush()
    while not (folder / "s").exists():
        time.sleep(0.01)
    yield str(folder / "s")
    process.stdin.close()
    assert process.wait(20) == 0
    assert not folder.exists()


TOLD = """
import json, os, resource, sys
print(json.dumps([sys.argv[1:], os.getcwd(), os.getpid(), os.getpgrp(), os.environ.get("FAIRSYNTH_FORKS"), __name__,
                  os.environ.get("SPT_NOENV"), os.getpriority(os.PRIO_PROCESS, 0),
                  resource.getrlimit(resource.RLIMIT_NOFILE)[0]]))
"""


def changed() -> None:
    """Ray raises the one after the server has started, and lowers the other."""
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def ask(script: Path, folder: Path, *flags: str) -> tuple[list[object], int]:
    """Run the worker's script as Ray does, for a worker that says what it is. Returns that, and the number of the asker."""
    environment = its_environment() | {"SPT_NOENV": "1"}
    words = [
        sys.executable,
        worker.__file__,
        *flags,
        str(script),
        "--id=a b",
        "--language=PYTHON",
        *context(env_vars={}),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, cwd=folder, preexec_fn=changed) as one:
        assert one.stdout is not None
        return json.loads(one.stdout.read()), one.pid


def test_a_worker_is_forked(address: str, tmp_path: Path) -> None:
    script = tmp_path / "default_worker.py"
    script.write_text(TOLD, "utf-8")
    nice = os.getpriority(os.PRIO_PROCESS, 0) + 3
    for flags in ([], ["-s"]):
        (words, folder, number, group, variable, name, set_, its_nice, files), asker = ask(script, tmp_path, *flags)
        assert words == ["--id=a b"] and folder == str(tmp_path) and name == "__main__"
        assert (
            number != asker and group == number and variable is None and (set_, its_nice, files) == ("1", nice, FILES)
        )


def test_half_a_request_does_no_harm(address: str, tmp_path: Path) -> None:
    for text in (
        b"",
        b"12",
        (2).to_bytes(worker.LENGTH, "big") + b"{}",
        (100).to_bytes(worker.LENGTH, "big") + b"{",
        (2).to_bytes(worker.LENGTH, "big") + b"[1",
    ):
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(address)
            asker.sendall(text)
    script = tmp_path / "default_worker.py"
    script.write_text(TOLD, "utf-8")
    (words, *_), asker = ask(script, tmp_path)
    assert words == ["--id=a b"]


def test_forks_that_would_draw_the_same_ids_are_noticed() -> None:
    code = """
import ray
from fairsynth.engine.forks import server
first = server.unlike()
ray.UniqueID.from_random()
print(first, server.unlike())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=its_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_nobody_is_forked_for_who_has_gone(address: str, tmp_path: Path) -> None:
    """A launcher that has waited for too long becomes the worker itself: a second one must not."""
    (tmp_path / "default_worker.py").write_text(f"open({str(tmp_path / 'forked')!r}, 'w')", "utf-8")
    environment = its_environment()
    request = {"words": [str(tmp_path / "default_worker.py")], "environment": environment, "folder": str(tmp_path)}
    more = {"nice": 0, "blocked": [], "score": "0", "files": resource.getrlimit(resource.RLIMIT_NOFILE)}
    text = json.dumps(request | more).encode()
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(address)
        socket.send_fds(asker, [len(text).to_bytes(worker.LENGTH, "big") + text], [0, 1, 2])
        asker.close()
    script = tmp_path / "next" / "default_worker.py"
    script.parent.mkdir()
    script.write_text(TOLD, "utf-8")
    assert ask(script, tmp_path)[0][0] == ["--id=a b"], "the server has gone on"
    assert not (tmp_path / "forked").exists()

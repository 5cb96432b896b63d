"""doctor: Ray's address, token and nodes; nothing is waited for without end, and no secret is shown."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from pathlib import Path

import pytest

from fairsynth.commands.doctor import cluster
from fairsynth.commands.doctor.check import Check
from fairsynth.commands.doctor.cluster import address_checks, cluster_checks
from fairsynth.commands.doctor.node import look, node_checks
from fairsynth.commands.doctor.packages import EQUAL, versions
from fairsynth.config.load import load_config
from fairsynth.engine.each_node import Answer
from tests.engine.answering import listening
from tests.support.calling import call

DEMO = load_config(None, "demo")


def by_name(checks: object) -> dict[str, Check]:
    return {check.name: check for check in checks}  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379", "127.0.0.1:x"])
def test_an_address_that_nobody_answers_fails_soon(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    check = by_name(address_checks())["Ray's address"]
    assert check.status == "failed" and "RAY_ADDRESS" in check.found and "unset it" in check.do
    assert time.monotonic() - began < 20


def test_an_address_that_answers_is_ok_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as where:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://me:verysecret@{where}")
        check = by_name(address_checks())["Ray's address"]
    assert check.status == "ok" and "verysecret" not in str(check)


def test_a_folder_that_ray_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    check = by_name(address_checks())["Ray's folder"]
    assert check.status == "failed" and "RAY_TMPDIR" in check.do


def test_the_token_is_looked_for_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def token(**env: str) -> Check:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return by_name(address_checks())["Ray's token"]

    file = tmp_path / "token"
    assert token(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(file)).status == "failed"
    file.write_text("verysecret")
    file.chmod(0o644)
    assert token(RAY_AUTH_TOKEN_PATH=str(file)) == Check(
        "Ray's token", "warning", f"others on this machine can read {file}", f"chmod 600 {file}"
    )
    file.chmod(0o600)
    assert token(RAY_AUTH_TOKEN_PATH=str(file)).status == "ok"
    check = token(RAY_AUTH_TOKEN="verysecret")
    assert check.status == "ok" and "verysecret" not in str(check)
    assert token(RAY_AUTH_MODE="disabled").status == "ok"
    check = token(RAY_AUTH_MODE="disabled", RAY_ADDRESS="auto")
    assert check.status == "warning" and "whoever reaches the cluster's ports can run code on it" in check.found


def answers(probe: Path, **changed: object) -> list[Answer]:
    """What one node answers, itself asked in this process."""
    (probe / "token").write_text("abc")
    began = time.time()
    found = look(DEMO.model_dump(mode="json"), str(probe), "abc", True) | changed
    return [Answer("one", began, time.time(), found)]


def test_a_node_like_this_machine_is_ok(tmp_path: Path) -> None:
    checks = by_name(node_checks(DEMO, answers(tmp_path), tmp_path))
    assert {check.status for check in checks.values()} == {"ok"}
    names = ("workers", "versions on nodes", "output folder on nodes", "models.clip on nodes", "clocks")
    assert {*names, "models.diffusion on nodes"} == checks.keys()


def test_what_is_wrong_with_nodes_is_told(tmp_path: Path) -> None:
    def check(name: str, **changed: object) -> Check:
        return by_name(node_checks(load_config(None, "demo"), answers(tmp_path, **changed), tmp_path))[name]

    other = {name: version for name, version in versions().items() if name in EQUAL} | {"ray": "2.55.0"}
    wrong = check("versions on nodes", versions=other)
    assert wrong.status == "failed" and "has ray 2.55.0, this machine" in wrong.found
    assert check("output folder on nodes", output="No such file or directory").do.startswith(
        "choose a folder with --out"
    )
    assert check("clocks", time=time.time() - 100).status == "warning"
    away = check("models.clip on nodes", models=[("models.clip", "failed", "it has no config.json", "get it")])
    assert away.status == "failed" and away.do == "get it"
    assert check("dataset on nodes", dataset=False).status == "failed"
    silent = Answer("two", 0, 0, failure="ModuleNotFoundError: No module named 'fairsynth'")
    found = by_name(node_checks(DEMO, [silent], tmp_path))
    assert found["workers"].status == "failed" and "install fairsynth on every node" in found["workers"].do
    # A folder that is another one there: what the node wrote is not to be seen here.
    found = by_name(node_checks(DEMO, answers(tmp_path), Path("/proc/self/task")))
    assert "cannot be seen here" in found["output folder on nodes"].found


def test_the_command_ends_with_5_if_something_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # a short path, as Ray's sockets need
    code, out, err = call("doctor", "--preset", "demo", "--out", tmp_path / "out", "--no-cluster", "--json")
    found = json.loads(out)
    assert (code, err, found["failed"], found["schema"]) == (0, "", False, 1) and not (tmp_path / "out").exists()
    assert {"python", "packages", "GPUs", "disk space", "models.clip", "Ray's folder"} <= {
        c["name"] for c in found["checks"]
    }
    code, out, err = call("doctor", "--preset", "demo", "--out", "/proc/x", "--no-cluster")
    assert (
        (code, err) == (5, "") and "\nfailed   output folder " in out and "to do " in out and out.endswith(" failed\n")
    )
    assert call("doctor", "--preset", "dmeo")[0] == 2 and call("doctor", tmp_path / "no.yaml")[0] == 2


@pytest.mark.slow
def test_a_head_that_does_not_speak_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_RAY_SECONDS", 12.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        (check,) = cluster_checks(DEMO, tmp_path, False)
    assert check.status == "failed" and "RAY_AUTH_MODE" in check.do and time.monotonic() - began < 60
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_local_ray_starts_and_its_worker_sees_all(tmp_path: Path) -> None:
    found = by_name(cluster_checks(DEMO, tmp_path / "out", True))
    assert {check.status for check in found.values()} == {"ok"}, found
    assert "everywhere" in found["versions on nodes"].found and "models.diffusion on nodes" in found
    assert not list(tmp_path.iterdir())

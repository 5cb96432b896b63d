"""A cluster where nobody answers is told within seconds, before the first stage is made, and not after Ray's minutes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fairsynth.engine.address import check_address, place
from fairsynth.errors import InfrastructureError
from tests.engine.answering import listening
from tests.support.calling import call


@pytest.mark.parametrize(
    ("address", "host_and_port"),
    [
        ("10.0.0.1:6380", "10.0.0.1:6380"),
        ("head", "head:6379"),
        ("ray://head", "head:10001"),
        ("ray://me:pw@head:1", "head:1"),
        ("[::1]:6379", "[::1]:6379"),
        ("auto", None),
        ("local", None),
        ("", None),
        ("other://x", None),
    ],
)
def test_the_place_of_an_address(address: str, host_and_port: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    there = place()
    assert (str(there) if there else None) == host_and_port


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x", "127.0.0.1:99999999"])
def test_where_nobody_answers_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InfrastructureError, match=r"cannot connect to 127\.0\.0\.1:.*'fairsynth doctor'"):
        check_address()


def test_where_somebody_answers_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_address()
    with listening() as where:
        monkeypatch.setenv("RAY_ADDRESS", where)
        check_address()


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer within 1 seconds"),
        (b"HTTP/1.1 400 Bad Request", "does not answer as Ray"),
        (b"", "does not answer"),
    ],
)
def test_where_something_else_listens_is_told(
    answer: bytes | None, why: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairsynth.engine.address._SECONDS", 1)
    with listening(answer) as where:
        monkeypatch.setenv("RAY_ADDRESS", scheme + where)
        with pytest.raises(InfrastructureError, match=rf"cannot connect to {where} \(RAY_ADDRESS\): .*{why}"):
            check_address()


def test_a_name_that_the_system_looks_up_for_minutes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairsynth.engine.address._ALL_SECONDS", 0.5)
    over = threading.Event()

    def slow(*_: object, **__: object) -> None:
        over.wait(20)
        raise OSError

    monkeypatch.setattr("socket.create_connection", slow)
    monkeypatch.setenv("RAY_ADDRESS", "slow.example:6379")
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"no answer within 0\.5 seconds"):
        check_address()
    assert time.monotonic() - began < 10
    over.set()


def test_a_run_ends_before_its_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    began = time.monotonic()
    code, _, complaint = call("run", "--preset", "demo", "--out", tmp_path / "out")
    assert code == 5 and complaint.startswith("fairsynth: cannot connect to 127.0.0.1:1 (RAY_ADDRESS): ")
    assert time.monotonic() - began < 60 and not [*tmp_path.glob("out/artifacts/*/artifact.json")]

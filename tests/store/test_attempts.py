"""How long one tries again: in all, or since the last byte that came."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from fairsynth.errors import InfrastructureError
from fairsynth.store import attempts
from fairsynth.store.attempts import Attempts
from fairsynth.store.objects import Objects
from tests.support.store.s3_server import KEYS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, which pass by pauses and by what the work adds."""
    now = [0.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(attempts.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


class Work:
    """Fails after minutes, with some more bytes each time, until it has all."""

    def __init__(self, clock: list[float], a_time: int, seconds: float = 400.0) -> None:
        self.clock, self.a_time, self.seconds, self.bytes, self.times = clock, a_time, seconds, 0, 0

    def __call__(self) -> str:
        self.times += 1
        self.clock[0] += self.seconds
        self.bytes += self.a_time
        if self.bytes >= 100:
            return "all"
        raise BaseError("status code: 503")


def test_work_that_gains_is_tried_for_ever(clock: list[float]) -> None:
    work = Work(clock, 10)
    assert Attempts(120).of("read x", work, lambda: work.bytes) == "all" and clock[0] > 4000


def test_work_that_stands_still_is_given_up_after_the_patience(clock: list[float]) -> None:
    clock[0], work = 400.0, Work(clock, 0, 5.0)
    ours = Attempts(120)
    assert ours.of("read x", lambda: "answered") == "answered"
    with pytest.raises(InfrastructureError, match=r"cannot read x: .*, tried for 1[012]\d s"):
        ours.of("read x", work, lambda: work.bytes)
    assert 100 < clock[0] - 400 < 130 and work.times > 5  # pauses are random, and the last may be too long


def test_other_work_is_given_up_after_the_patience_in_all(clock: list[float]) -> None:
    work = Work(clock, 10)
    with pytest.raises(InfrastructureError, match="tried for 400 s"):
        Attempts(120).of("read x", work)
    assert work.times == 1


class _Slow(BaseHTTPRequestHandler):
    """Answers a byte at a time, for three seconds."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("Content-Length", "15"), ("ETag", '"1"'), ("Last-Modified", self.date_time_string())):
            self.send_header(name, value)
        self.end_headers()
        for _ in range(15):
            self.wfile.write(b"x")
            time.sleep(0.2)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_download_may_take_any_time_while_bytes_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), _Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"s3://bucket/out?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
        assert Objects.at(uri, 1.0).download("a", tmp_path / "a") and (tmp_path / "a").read_bytes() == b"x" * 15
        server.shutdown()

"""Ray's handlers of signals do not stay: SIGTERM interrupts a command, whatever Ray has done or is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import Session
from tests.engine.answering import listening

# A signal after ray.init, and one more after ray.shutdown.
TERMINATED = """
import os, signal, time
from fairsynth import console, interrupts
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import Session

def work():
    session = Session(ResourcesConfig())
    session.connect()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        return 1
    except KeyboardInterrupt:
        session.close()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
    return 2

interrupts.catch()
console.leave(console.guarded(work))
"""
MESSAGE = "fairsynth: interrupted; finished work is kept, the same command goes on\n"


# Fault case 53: the run is interrupted.
@pytest.mark.slow
def test_a_signal_to_a_process_with_ray_is_an_interruption() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stderr) == (130, MESSAGE)


def handler(*_: object) -> None:
    """What was there before Ray."""


@pytest.mark.parametrize("end", ["signal", "error", "well"])
def test_while_ray_starts_a_signal_interrupts_and_handlers_come_back(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        # As Ray does it, before it connects.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if end == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if end == "error":
            raise SystemExit(2)

    monkeypatch.setattr("ray.init", init)
    session, before = Session(ResourcesConfig()), signal.signal(signal.SIGTERM, handler)
    try:
        with listening() as where:
            monkeypatch.setenv("RAY_ADDRESS", where)
            if end == "well":
                session.connect()
            else:
                with pytest.raises(KeyboardInterrupt if end == "signal" else SystemExit):
                    session.connect()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        session.close()
        signal.signal(signal.SIGTERM, before)

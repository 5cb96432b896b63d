"""Commands that only show end without a word: when nobody reads on, and when they are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.watching.leftovers import hold, progress


def begun(*words: str | Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    words = (sys.executable, "-m", "fairsynth.cli", *words)
    return subprocess.Popen([*map(str, words)], stdout=stdout, stderr=subprocess.PIPE, preexec_fn=_as_at_a_terminal)


def _as_at_a_terminal() -> None:
    """A shell's background commands, these tests among them, may have been told to ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("command", ["status", "logs"])
def test_a_pipe_that_is_closed_is_no_error(command: str, tmp_path: Path) -> None:
    progress(tmp_path)
    read, write = os.pipe()
    os.close(read)
    process = begun(command, tmp_path, stdout=write)
    os.close(write)
    assert (process.communicate(timeout=120)[1], process.returncode) == (b"", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_follows_is_interrupted_without_a_word_of_work(number: signal.Signals, tmp_path: Path) -> None:
    progress(tmp_path)
    hold(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run.jsonl").write_text('{"at": 1.0, "kind": "said", "text": "one"}\n', "utf-8")
    process = begun("logs", tmp_path, "--follow")
    assert process.stdout is not None and process.stdout.readline().endswith(b"one\n")
    time.sleep(0.1)
    process.send_signal(number)
    assert (process.communicate(timeout=120)[1], process.returncode) == (b"", 130)

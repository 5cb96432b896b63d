"""A command in this process, export for one, and what is printed where it refuses."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from fairsynth.cli import main


def call(*words: str | Path) -> tuple[int, str, str]:
    """Its exit code, what it prints, and what it complains about."""
    before, out, err = signal.getsignal(signal.SIGTERM), StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, words)])
    signal.signal(signal.SIGTERM, before)
    return code, out.getvalue(), err.getvalue()


def called(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, told as a process of its own would be, whose start and imports take seconds."""
    code, out, err = call(*words)
    return subprocess.CompletedProcess(words, code, out, err)


def export(*arguments: str | Path) -> tuple[int, str, str]:
    """The same of the command export."""
    return call("export", *arguments)


def refused(outcome: tuple[int, str, str]) -> str:
    """Check that it is one line with exit code 2; returns the line."""
    assert outcome[:2] == (2, "") and re.fullmatch("fairsynth: .+\n", outcome[2]), outcome
    return outcome[2]

"""A command in this process."""

from __future__ import annotations

import signal
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

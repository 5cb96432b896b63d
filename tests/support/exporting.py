"""The command export in this process, and what it says where it refuses."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.calling import call


def export(*arguments: str | Path) -> tuple[int, str, str]:
    """The command in this process: its exit code, what it prints, and what it complains about."""
    return call("export", *arguments)


def refused(outcome: tuple[int, str, str]) -> str:
    """Check that it is one line with exit code 2; returns the line."""
    assert outcome[:2] == (2, "") and re.fullmatch("fairsynth: .+\n", outcome[2]), outcome
    return outcome[2]

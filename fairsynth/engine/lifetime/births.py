"""Notices workers of a local Ray that end as soon as they start: Ray starts others without end, and says nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from fairsynth.engine.lifetime import processes

# Seconds from the first start until the run is given up, if no worker has come up by then and some have ended.
PATIENCE = 40.0
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


class Births:
    """Of a local Ray's first workers. ``errors`` is where they say what is wrong, before they have a log of their own."""

    def __init__(self, raylet: int, errors: Path) -> None:
        self.raylet, self.errors = raylet, errors
        self.well, self._first = False, 0.0
        self._starting, self._ended = set[int](), 0

    def look(self) -> str:
        """What is wrong, for people; empty so far. Is called a few times a second until one is ``well``."""
        there = {number: processes.command(number) for number in processes.children().get(self.raylet, [])}
        if any(title.startswith("ray::") and not title.startswith(_AGENTS) for title in there.values()):
            self.well = True
            return ""
        starting = {number for number, words in there.items() if "/default_worker.py" in words}
        self._ended += len(self._starting - starting)
        self._starting = starting
        said = self._said()
        if not self._first and (starting or said):
            self._first = time.monotonic()
        if not self._first or time.monotonic() - self._first < PATIENCE or not (self._ended or said):
            return ""
        return f"Ray's workers end as soon as they start: {said or 'they say nothing; ' + str(self.errors.parent) + ' has the logs'}"

    def _said(self) -> str:
        with suppress(OSError):
            lines = self.errors.read_text("utf-8", "replace").strip().splitlines()
            return " ".join(lines[-1].split())[-300:] if lines else ""
        return ""

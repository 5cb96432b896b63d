"""Notices workers of a local Ray that end as soon as they start: Ray starts others without end, and says nothing."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from fairsynth.engine.forks import server, worker
from fairsynth.engine.lifetime import processes

# Seconds from the first start until the run is given up, if no worker has come up by then and some have ended.
PATIENCE = 40.0
# Ray starts another for each that ends, so more than one does where they cannot start. Where one has lived for so many
# seconds they are slow: the raylet itself ends workers that do not come up within a minute.
_ENDS, _SLOW = 2, 45.0
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
# Words of who failed, not of who only warns.
_FAILED = re.compile(r"error|exception|cannot|can't|not found|no such|denied|abort|fatal", re.IGNORECASE)
# What the raylet itself writes there: [2026-01-31 12:00:00,000 I 1234 1234] ...
_RAYLETS = re.compile(r"\[\d{4}-\d\d-\d\d .* [A-Z] \d+")


class Births:
    """Of a local Ray's first workers. ``errors`` is where they say what is wrong, before they have a log of their own."""

    def __init__(self, raylet: int, errors: Path) -> None:
        self.raylet, self.errors = raylet, errors
        self.well, self._first, self._none = False, 0.0, 0.0
        # When each that is starting was first seen; how long those lived that ended before they came up.
        self._starting, self._lives = dict[int, float](), list[float]()
        self._asking = set[int]()  # for a fork, and end when they have one

    def look(self) -> str:
        """What is wrong, for people; empty so far. Is called a few times a second until one is ``well``."""
        there, now = self._children(), time.monotonic()
        if any(title.startswith("ray::") and not title.startswith(_AGENTS) for title in there.values()):
            self.well = True
            return ""
        starting = {number for number, words in there.items() if "/default_worker.py" in words}
        gone = {number: since for number, since in self._starting.items() if number not in starting}
        self._lives += [now - since for number, since in gone.items() if number not in self._asking]
        self._starting = {number: self._starting.get(number, now) for number in starting}
        self._asking = {number for number in starting if worker.__file__ in there[number]}
        if starting and not self._first:
            self._first = now
        self._none = now if starting else self._none or now
        seen = self._first and now - self._first >= PATIENCE and not self._may_come_up(now)
        # Those that ended before the first look have left their words, and Ray starts no others for minutes.
        if not seen and not (now - self._none >= PATIENCE and _FAILED.search(self._said())):
            return ""
        return f"Ray's workers end as soon as they start: {self._said() or f'they say nothing; {self.errors.parent} has the logs'}"

    @property
    def hurried(self) -> bool:
        """Whether to look more often: a worker has said something, and may have ended between two looks."""
        return not self.well and bool(self._said())

    def _children(self) -> dict[int, str]:
        there = processes.children()
        forks = [one for one in there.get(os.getpid(), []) if server.__file__ in processes.command(one)]
        return {
            number: processes.command(number) for parent in (self.raylet, *forks) for number in there.get(parent, [])
        }

    def _may_come_up(self, now: float) -> bool:
        """Whether those that are starting may be slow only: few have ended, or one lives for longer than those did."""
        longest = max(self._lives, default=0.0)
        slow = longest >= _SLOW or any(now - since > longest for since in self._starting.values())
        return slow or len(self._lives) < _ENDS

    def _said(self) -> str:
        with suppress(OSError):
            lines = self.errors.read_text("utf-8", "replace").strip().splitlines()
            theirs = [line for line in lines if line.strip() and not _RAYLETS.match(line)]
            return " ".join(theirs[-1].split())[-300:] if theirs else ""
        return ""

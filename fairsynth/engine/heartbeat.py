"""A sign of life from long stages, for job logs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from threading import Lock

from fairsynth.watching import log
from fairsynth.watching.record import pieces


class Heartbeat:
    """A line at most every ``every`` seconds: stage done/total rate eta. ``quiet``: into the run's log alone."""

    def __init__(self, stage: str, total: int, done: float, every: float = 30.0, quiet: bool = False) -> None:
        self.stage, self.total, self.done, self.every, self.quiet = stage, total, done, every, quiet
        self.began = self.last = self.moved = time.monotonic()
        self.first = done
        self._paced_from, self._lock = (self.began, done), Lock()
        self._start_known = False

    def ready(self, ago: float) -> None:
        """The first worker was ready so many seconds ago: what came before is start-up, and no part of the pace."""
        if not self._start_known:
            self._start_known = True
            self._paced_from = max(self.began, time.monotonic() - max(0.0, ago)), self.done

    def pace(self) -> tuple[float, float | None]:
        """Units per second so far, and seconds until all are done at that rate; 0 and None before the first.

        The unit that is awaited has been at work since the last one: its time is taken off, so that what is left
        does not grow while it runs; 0 seconds with units left: the last one is overdue.
        """
        (start, before), done, now = self._paced_from, self.done, time.monotonic()
        units = done - before
        if units <= 0:
            return 0.0, None
        each = max(1e-9, self.moved - start) / units
        left = max(0.0, self.total - done) * each - min(each, now - self.moved)
        return units / max(1e-9, now - start), max(0.0, left)

    def set_done(self, done: float) -> None:
        """Set the number of finished units; tells of it when it is time."""
        if done != self.done:
            self.done, self.moved = done, time.monotonic()
            if done != int(done):
                self.ready(0.0)  # parts of units are seen from their first steps on
        self.tell()

    def tell(self) -> None:
        """Tell how far it is if it is time, also while no unit has ended."""
        with self._lock:
            now = time.monotonic()
            if self.done >= self.total or now - self.last < self.every:
                return
            self.last = now
        line = self._line(now)
        log.note(log.BEAT, line)
        if not self.quiet:
            with suppress(OSError, ValueError):  # nobody is left to tell
                print(line, file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        rate, left = self.pace()
        start = f"{self.stage} {pieces(self.done)}/{self.total}"
        if left is None:
            return f"{start}, {now - self.began:.0f} s so far"
        return f"{start} {rate:.2f}/s " + (f"eta {left:.0f}s" if left else "nearly done")

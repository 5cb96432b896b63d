"""A sign of life from long stages, for job logs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from fairsynth.watching import log
from fairsynth.watching.record import pieces


class Heartbeat:
    """A line at most every ``every`` seconds: stage done/total rate eta. ``quiet``: into the run's log alone."""

    def __init__(self, stage: str, total: int, done: float, every: float = 30.0, quiet: bool = False) -> None:
        self.stage, self.total, self.done, self.every, self.quiet = stage, total, done, every, quiet
        self.began = self.last = time.monotonic()
        self.first = done

    def pace(self) -> tuple[float, float | None]:
        """Units per second so far, and seconds until all are done at that rate; 0 and None before the first."""
        done = self.done
        rate = max(0, done - self.first) / max(1e-9, time.monotonic() - self.began)
        return rate, max(0, self.total - done) / rate if rate else None

    def set_done(self, done: float) -> None:
        """Set the number of finished units; tells of it when it is time and the number has grown."""
        self.done = done
        now = time.monotonic()
        rate, left = self.pace()
        if left is None or self.done >= self.total or now - self.last < self.every:
            return
        self.last = now
        line = f"{self.stage} {pieces(self.done)}/{self.total} {rate:.2f}/s eta {left:.0f}s"
        log.note(log.BEAT, line)
        if not self.quiet:
            with suppress(OSError, ValueError):  # nobody is left to tell
                print(line, file=sys.stderr, flush=True)

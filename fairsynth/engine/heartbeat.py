"""A sign of life from long stages."""

from __future__ import annotations

import sys
import time


class Heartbeat:
    """A line on stderr at most every ``every`` seconds, 2 on a terminal: stage done/total rate eta."""

    def __init__(self, stage: str, total: int, done: int, every: float = 30.0) -> None:
        self.stage, self.total, self.done, self.every = stage, total, done, every
        self.began = self.last = time.monotonic()
        self.first = done

    def tick(self) -> None:
        """Count one more unit."""
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """Set the number of finished units; prints a line when it is due and the number has grown."""
        self.done = done
        now = time.monotonic()
        if now - self.last >= (2.0 if sys.stderr.isatty() else self.every) and self.first < self.done < self.total:
            rate = (self.done - self.first) / (now - self.began)
            print(
                f"{self.stage} {self.done}/{self.total} {rate:.2f}/s eta {(self.total - self.done) / rate:.0f}s",
                file=sys.stderr,
                flush=True,
            )
            self.last = now

"""Signs of life of a worker: which units it works on, and that it does.

A worker that hangs is none that is slow: its process stands still, or uses neither processor nor disk. So a thread in it
writes a new sign whenever the process has moved, into Ray's own key-value store, and the driver looks at these signs.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairsynth.engine.lifetime import processes
from fairsynth.errors import InfrastructureError

SPACE = b"fairsynth"
# After so many times the run ends: workers that hang on a unit, and processes whose first unit it is and that end with it.
MOST_HANGS, MOST_DEATHS = 3, 8
# A worker moves if it uses this part of a processor, or reads and writes so many bytes.
_BUSY, _BYTES = 0.03, 2**20
# Seconds after which the next unit is told of at once, and not by the thread.
_SOON = 1.0


def interval(seconds: float) -> float:
    """Seconds between signs, and between looks at them."""
    return min(15.0, max(0.2, seconds / 10))


class Beats:
    """Of one worker. It travels there empty; the thread begins with the first unit."""

    def __init__(self, stage: str, seconds: float) -> None:
        self.stage, self.seconds = stage, seconds
        self._units: list[str] = []
        self._hung: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._moved, self._used, self._last = 0, (0.0, 0), time.monotonic()
        self._said, self._idle, self._lock = "", True, threading.Lock()
        self._first: str | None = None

    def begin(self, unit: str) -> None:
        """The worker begins a unit. Raises InfrastructureError if workers have hung on it, or ended with it, too often."""
        if self._first is None:
            self._first = unit
            self._check_deaths(unit)
        if not self.seconds:
            return
        if self._thread is None:
            self._look()
        if (times := self._hung.get(unit, 0)) >= MOST_HANGS:
            raise InfrastructureError(
                f"stage {self.stage}: {times} workers in turn made no progress on unit {unit} for {self.seconds:g} seconds "
                "(resources.hang_seconds) and were replaced; finished units are kept, the same command goes on"
            )
        self._units.append(unit)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True, name="beats")
            self._say()
            self._thread.start()
        elif self._idle or time.monotonic() - self._last > _SOON:
            self._say()

    def end(self, unit: str) -> None:
        """The worker is through with it."""
        if unit in self._units:
            self._units.remove(unit)
        if unit == self._first:
            self._first = ""
            with suppress(Exception):
                put(self._deaths_key(unit), "0")

    @contextmanager
    def at_work(self, unit: str) -> Iterator[None]:
        """A unit is at work while this lasts. Raises as ``begin`` does."""
        self.begin(unit)
        try:
            yield
        finally:
            self.end(unit)

    def _check_deaths(self, unit: str) -> None:
        """Count the processes that begin with this unit, none of which came through with it: Ray would start others for ever."""
        deaths = 0
        with suppress(Exception):
            import ray

            if not ray.is_initialized():
                return
            deaths = int(read(self._deaths_key(unit), 0))
            put(self._deaths_key(unit), str(deaths + 1))
        if deaths >= MOST_DEATHS:
            raise InfrastructureError(
                f"stage {self.stage}: {deaths} workers in turn ended while they were at unit {unit}; most often memory runs "
                "out: have fewer workers side by side (resources.workers), or machines with more memory; finished units are "
                "kept, the same command goes on"
            )

    def _deaths_key(self, unit: str) -> bytes:
        import ray

        return key("deaths", ray.get_runtime_context().get_job_id(), self.stage, unit)

    def _beat(self) -> None:
        while True:
            time.sleep(interval(self.seconds))
            self._say()
            self._look()

    def _say(self) -> None:
        """Give a sign if there is something new to tell; one that cannot be given is no reason to fail."""
        with suppress(Exception), self._lock:
            import ray

            if not ray.is_initialized():
                return  # to ask it where one is would start one
            now, used = time.monotonic(), _used()
            processor, disk = used[0] - self._used[0], used[1] - self._used[1]
            if processor > _BUSY * (now - self._last) or disk > _BYTES:
                self._moved += 1
            self._used, self._last = used, now
            context = ray.get_runtime_context()
            place = {"node": context.get_node_id(), "pid": os.getpid(), "began": processes.began(os.getpid())}
            text = json.dumps(place | {"units": list(self._units), "moved": self._moved})
            if text != self._said:
                name = key("beat", context.get_job_id(), self.stage, context.get_worker_id())
                put(name, text)
            self._said, self._idle = text, not self._units

    def _look(self) -> None:
        """Which units workers have hung on."""
        with suppress(Exception):
            import ray

            if not ray.is_initialized():
                return
            self._hung = {str(unit): int(times) for unit, times in read(hung_key(ray, self.stage), {}).items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Beats, (self.stage, self.seconds)


def key(*parts: str) -> bytes:
    """A name in Ray's key-value store."""
    return "\n".join(parts).encode()


def hung_key(ray: Any, stage: str) -> bytes:
    """Where it stands how often workers have hung on which units."""
    return key("hung", ray.get_runtime_context().get_job_id(), stage)


def read(name: bytes, otherwise: Any) -> Any:
    """What stands there."""
    from ray.experimental.internal_kv import _internal_kv_get

    text = _internal_kv_get(name, namespace=SPACE)
    return otherwise if text is None else json.loads(text)


def put(name: bytes, text: str) -> None:
    """Let that stand there."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(name, text, namespace=SPACE)


def _used() -> tuple[float, int]:
    """Seconds of the processor, and bytes read and written, of this process so far."""
    count = 0
    with suppress(OSError, ValueError, IndexError):
        count = sum(int(line.split()[1]) for line in Path("/proc/self/io").read_text("utf-8").splitlines()[:2])
    return time.process_time(), count

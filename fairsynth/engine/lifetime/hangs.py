"""Replaces workers that hang: the driver's side of ``beats``."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairsynth.engine.lifetime import processes
from fairsynth.engine.lifetime.beats import SPACE, hung_key, interval, key, put, read
from fairsynth.watching.log import failure


@contextmanager
def replaced(stage: str, seconds: float, root: Path | None) -> Iterator[None]:
    """While this lasts, end every worker of the stage that has not moved for so many seconds: Ray starts another then.

    0 seconds: none. The log of the output folder tells of it.
    """
    over = threading.Event()
    watch = _Watch(stage, seconds, root)
    if seconds:
        threading.Thread(target=watch.run, args=(over,), daemon=True, name="hangs").start()
    try:
        yield
    finally:
        over.set()


class _Watch:
    def __init__(self, stage: str, seconds: float, root: Path | None) -> None:
        self.stage, self.seconds, self.root = stage, seconds, root
        # What each worker said last, and since when.
        self.said: dict[bytes, tuple[str, float]] = {}
        # When a hang of each unit was counted last.
        self.counted: dict[str, float] = {}

    def run(self, over: threading.Event) -> None:
        while not over.wait(interval(self.seconds)):
            with suppress(Exception):  # Ray is gone, or busy: others tell of that
                self.look()

    def look(self) -> None:
        import ray
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_list

        if not ray.is_initialized():
            return  # to ask it where one is would start one
        for name in _internal_kv_list(
            key("beat", ray.get_runtime_context().get_job_id(), self.stage, ""), namespace=SPACE
        ):
            text, now = json.dumps(read(name, {})), time.monotonic()
            said, since = self.said.get(name, ("", now))
            if text != said:
                self.said[name] = text, now
            elif now - since > self.seconds and (beat := json.loads(text)).get("units"):
                _internal_kv_del(name, namespace=SPACE)
                del self.said[name]
                self.replace(ray, beat)

    def replace(self, ray: Any, beat: dict[str, Any]) -> None:
        """End the worker, if it is the same process still, and count its units.

        Workers that train together fall silent together, and are replaced together: that is one hang.
        """
        if not _ended(ray, beat["node"], int(beat["pid"]), str(beat["began"])):
            return  # it died otherwise, or its node did
        counts = read(hung_key(ray, self.stage), {})
        for unit in self.anew(beat["units"]):
            counts[unit] = counts.get(unit, 0) + 1
            if self.root is not None:
                why = f"its worker made no progress for {self.seconds:g} seconds and was replaced"
                failure(self.root, self.stage, unit, why, "", again=True)
        put(hung_key(ray, self.stage), json.dumps(counts))

    def anew(self, units: list[str]) -> list[str]:
        """Those of which no hang was counted for as long as a worker that began since would need to be taken for hung."""
        now = time.monotonic()
        found = [unit for unit in dict.fromkeys(units) if now - self.counted.get(unit, float("-inf")) > self.seconds]
        self.counted.update(dict.fromkeys(found, now))
        return found


def end_process(number: int, start: str) -> bool:
    """End a process of this machine if it is the one that began then; whether it was."""
    if not start or processes.began(number) != start:
        return False
    with suppress(OSError):
        os.kill(number, signal.SIGKILL)
        return True
    return False


def _ended(ray: Any, node: str, number: int, start: str) -> bool:
    if node == ray.get_runtime_context().get_node_id():
        return end_process(number, start)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(end_process).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(number, start)
    return bool(ray.get(task, timeout=60))

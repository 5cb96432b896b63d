"""What starting takes on one machine, with what fairsynth does about it and without.

``python -m benchmarks.startup [--repeats 5] [--json FILE]``. Each measurement is a process of its own, and the ways take
turns; files are in the system's cache from a first, unmeasured round. Three things, all of a local Ray:

- a session: ``ray.init`` as Ray starts (without its dashboard), and as ``fairsynth.engine.lifetime.start`` has it start;
- workers: two actors at once, until both have imported what makes images, from Ray's order to start them; with forked
  workers the first pair (which waits for the fork server) and the next;
- jobs: one of Ray Train whose work is nothing, until it has ended.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import machine, write_json

_SESSION = """
import json, os, sys, tempfile, time
from contextlib import nullcontext
from pathlib import Path
from fairsynth.config import ResourcesConfig
from fairsynth.engine.lifetime import start
from fairsynth.engine.session import session_of

ours = sys.argv[1] == "ours"
if not ours:
    start.few_processes = lambda setup: nullcontext()
found = {}
with session_of(ResourcesConfig(fork_workers="auto" if ours else "never", workers=2)) as session:
    import ray
    session.connect()
    found["session, seconds"] = session.startup_seconds
"""
_WORKERS = (
    _SESSION
    + """
    @ray.remote(num_cpus=1)
    class Worker:
        def ready(self):
            from diffusers import StableDiffusionPipeline
            import fairsynth.engine.units, fairsynth.models.image_maker, fairsynth.stages.synthesize.generate
            return time.process_time()

    for name in ("first", "next"):
        began = time.monotonic()
        workers = [Worker.remote() for _ in range(2)]
        used = ray.get([one.ready.remote() for one in workers])
        found[f"{name} pair of workers, seconds"] = time.monotonic() - began
        found[f"{name} pair of workers, processor seconds each"] = sum(used) / 2
        for one in workers:
            ray.kill(one)
        time.sleep(1)
print(json.dumps(found))
"""
)
_JOBS = (
    _SESSION
    + """
    from fairsynth.engine import train
    if not ours:
        train._fitting = lambda trainer: trainer
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "1"
    room = session.room(1, "resources.workers")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "next"):
            began = time.monotonic()
            (ended,) = train.run_jobs(session, "finetune", {"job": lambda ranks, goes: None}, Path(folder), room)
            found[f"{name} job, seconds"] = time.monotonic() - began
            assert isinstance(ended, float), ended
print(json.dumps(found))
"""
)
_WAYS = ("as Ray starts", "ours")


def measure(code: str, way: str) -> dict[str, float]:
    """Values of one process, by name. Raises CalledProcessError."""
    words = [sys.executable, "-W", "ignore", "-c", code, way]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, print a table, and write the values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    seen: dict[str, dict[str, list[float]]] = {way: {} for way in _WAYS}
    for repeat in range(asked.repeats + 1):
        for way in _WAYS:
            for code in (_WORKERS, _JOBS):
                for name, value in measure(code, way).items():
                    if repeat:
                        seen[way].setdefault(name, []).append(value)
    names = list(seen["ours"])
    rows: list[dict[str, Any]] = [
        {"what": name, "unit": "s"} | {way: median(seen[way][name]) for way in _WAYS} for name in names
    ]
    for row in rows:
        print(f"{row['what']:50} {row[_WAYS[0]]:7.2f} {row[_WAYS[1]]:7.2f}")
    write_json(asked.json, {"machine": machine(), "repeats": asked.repeats, "rows": rows, "values": seen})


if __name__ == "__main__":
    main()

"""What more workers gain, with work that sleeps; and what many small images cost: rate, memory, a second start.

``python benchmarks/scale_workers.py [--workers 1 2 4 8] [--units 40] [--seconds 1.0] [--images 1000000] [--json FILE]``.
Each worker has a simulated node with two CPUs and a GPU, which Ray counts and nobody uses, and a unit's work is to sleep for what a GPU would take, give or take a fifth: what is
measured is how long workers wait for each other and for the driver. Four ways of handing work out, as the stages have them:
``embed`` (images are decoded ahead, in other processes), ``synthesize`` (files are written while the next images are
made), ``evaluate`` (few long trainings, the longest first) and ``tune`` (trials on Ray Tune). Efficiency is the seconds of
work as a share of those that all workers have had since they began; what the first of each needs to begin is told apart.

Then so many JPEGs of 32 x 32, and a tenth of them: a plain loop that hashes and decodes each file, the stage ingest, the same
command again, and ``fairsynth inspect``, each in a process of its own. Start-up of Ray is left out. ``--images 0`` or
``--workers 0`` leaves a half out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import apart, machine, peak_memory, simulated_nodes, stage_record, write_images, write_json

SIDE, KINDS = 32, ("embed", "synthesize", "evaluate", "tune")
SPREAD = 0.2
# A training is so many times as long as another unit, and there are so many times fewer of them.
LONG = 4


class Sleeper:
    """Work that sleeps; the table tells when, how long and in which process."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        began, name = time.time(), str(task["name"])
        time.sleep(self.seconds[name])
        facts = {"began": [began], "seconds": [time.time() - began], "worker": [os.getpid()]}
        return {"rows": pa.table(facts)}


class WithFiles(Sleeper):
    """The same, with files that take another quarter of the time to write: while the next unit is begun."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        super().__init__(seconds)
        self.writers = ThreadPoolExecutor(1)

    def begin(self, task: Mapping[str, Any]) -> tuple[dict[str, pa.Table], Future[None]]:
        made = super().__call__(task)
        return made, self.writers.submit(time.sleep, self.seconds[str(task["name"])] / 4)

    def finish(self, begun: tuple[dict[str, pa.Table], Future[None]]) -> dict[str, pa.Table]:
        begun[1].result()
        return begun[0]


def decoded(seconds: float, name: str) -> dict[str, Any]:
    """In place of decoding a unit's images: 3 MB of pixels after a quarter of the time that the model takes."""
    import numpy as np

    time.sleep(seconds / 4)
    return {"pixels": np.zeros((64, 128, 128, 3), np.uint8)}


def trial(units: Path, name: str, seconds: Mapping[str, float], report: Callable[[Any], None], ranks: Any) -> None:
    """A trial of the search: sleeps, commits, reports."""
    from fairsynth.artifacts import Units
    from fairsynth.work import write_tables

    tables = Sleeper(seconds)({"name": name})
    Units(units).commit(name, partial(write_tables, tables))
    report({"merit": 0.0})


def handed_out(kind: str, folder: Path, seconds: Mapping[str, float], workers: int) -> None:
    """Have the units of one kind made on the cluster that RAY_ADDRESS names."""
    from fairsynth.artifacts import Units
    from fairsynth.config import ResourcesConfig
    from fairsynth.engine.session import session_of
    from fairsynth.engine.trials import run_trials
    from fairsynth.engine.units import run_units
    from fairsynth.stages.synthesize.rounds import UNITS_PER_CALL

    units, names = Units(folder / "units"), sorted(seconds, key=lambda name: -seconds[name])
    with session_of(ResourcesConfig(workers=workers, gpus_per_worker=1)) as session:
        if kind == "tune":
            trials = {name: partial(trial, units.path, name, seconds) for name in names}
            run_trials(session, kind, trials, folder / "ray", lambda: len(units.done()))
            return
        make = partial(WithFiles if kind == "synthesize" else Sleeper, seconds)
        prepare = partial(decoded, mean(seconds.values())) if kind == "embed" else None
        order = names if kind == "evaluate" else sorted(names)
        per_call = UNITS_PER_CALL if kind == "synthesize" else 1
        run_units(session, kind, units, order, make, prepare, per_call=per_call)


def processor_seconds() -> float:
    """Seconds that this machine's processors have worked since it began."""
    import psutil

    spent = psutil.cpu_times()
    return float(spent.user + spent.system + spent.nice + getattr(spent, "softirq", 0.0))


def efficiency(kind: str, workers: int, each: int, seconds: float, seed: int) -> dict[str, Any]:
    """Figures of one kind on so many workers, with ``each`` units for every worker."""
    if kind in ("evaluate", "tune"):
        each, seconds = max(1, each // LONG), seconds * LONG
    rng = random.Random(seed)  # noqa: S311
    takes = {f"{n:06d}": seconds * rng.uniform(1 - SPREAD, 1 + SPREAD) for n in range(each * workers)}
    folder = Path(tempfile.mkdtemp())
    try:
        began, used = time.time(), processor_seconds()
        handed_out(kind, folder, takes, workers)
        ended = time.time()
        busy = (processor_seconds() - used) / (ended - began) / (os.cpu_count() or 1)
        rows = pa.concat_tables([pq.read_table(folder / "units" / name / "rows.parquet") for name in takes]).to_pylist()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first, free, gaps = dict[int, float](), dict[int, float](), []
    for row in sorted(rows, key=lambda row: row["began"]):
        gaps += [row["began"] - free[row["worker"]]] if row["worker"] in free else []
        first.setdefault(row["worker"], row["began"])
        free[row["worker"]] = row["began"] + row["seconds"]
    work, last = sum(row["seconds"] for row in rows), max(row["began"] + row["seconds"] for row in rows)
    start = mean(sorted(first.values())[:workers]) - began
    return {
        "kind": kind,
        "workers": workers,
        "units": len(rows),
        "processes": len(first),
        "work, seconds of all workers": work,
        "start, seconds, mean": start,
        "wall, seconds": ended - began,
        "between units of a worker, seconds, median": median(gaps),
        "last worker done after the first, seconds": max(free.values()) - min(free.values()),
        "processors busy, share": busy,
        "end after the last unit, seconds": ended - last,
        "efficiency": work / workers / (ended - began - start),
        "efficiency with the start": work / workers / (ended - began),
    }


def by_workers(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """All kinds on all numbers of workers."""
    rows = []
    for workers in chosen.workers:
        with simulated_nodes(workers, 2, 1):
            for kind in chosen.kinds:
                rows.append(efficiency(kind, workers, chosen.units, chosen.seconds, chosen.seed))
                print(rows[-1], flush=True)
    return rows


def plain(root: Path) -> dict[str, float]:
    """Seconds of a loop that hashes and decodes each file, in one process."""
    from io import BytesIO

    from PIL import Image

    with open(root / "metadata.csv", encoding="utf-8", newline="") as handle:
        files = [row["file_name"] for row in csv.DictReader(handle)]
    began = time.monotonic()
    for name in files:
        content = (root / name).read_bytes()
        hashlib.sha256(content).hexdigest()
        Image.open(BytesIO(content)).convert("RGB")
    return {"seconds": time.monotonic() - began}


def ingested(root: Path) -> dict[str, float]:
    """Seconds of ingest without start-up, and of the same command again."""
    from fairsynth.config.load import load_config
    from fairsynth.pipeline import run

    with tempfile.TemporaryDirectory() as out:
        place = {"data.format": "folder", "data.root": str(root), "out": f"{out}/out"}
        config = load_config(preset="demo", overrides=place)
        began = time.monotonic()
        run(config, only="ingest", say=lambda _: None)
        whole, began = time.monotonic() - began, time.monotonic()
        run(config, only="ingest", say=lambda _: None)
        again = time.monotonic() - began
        return {"seconds": whole - stage_record(Path(out) / "out", "ingest")["startup_seconds"], "again": again}


def inspected(root: Path) -> dict[str, float]:
    """Seconds of inspect without the start of Ray."""
    from fairsynth.commands.inspect.run import inspect_dataset
    from fairsynth.config import ResourcesConfig
    from fairsynth.config.load import load_config
    from fairsynth.engine.session import session_of

    config = load_config(preset="demo", overrides={"data.format": "folder", "data.root": str(root)})
    with session_of(ResourcesConfig()) as session:
        session.connect()
        began = time.monotonic()
        inspect_dataset(config)
        return {"seconds": time.monotonic() - began}


SIDES: Mapping[str, Callable[[Path], dict[str, float]]] = {"plain": plain, "ingest": ingested, "inspect": inspected}


def one_side(side: str, root: Path) -> dict[str, float]:
    """One measurement in this process: seconds, its own memory at most, and that of all processes."""
    found: dict[str, float] = {}
    with peak_memory(found):
        found |= SIDES[side](root)
    return found | {"driver, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def of_images(n: int) -> list[dict[str, Any]]:
    """All sides, each in a process of its own, on a tenth of the images and on all of them."""
    rows, cores = [], os.cpu_count() or 1
    for size in [n // 10, n]:
        with tempfile.TemporaryDirectory() as root:
            write_images(Path(root), size, SIDE)
            for side in SIDES:
                found = apart(__file__, "--side", side, "--root", root, HF_HUB_OFFLINE="1")
                used = 1 if side == "plain" else cores
                rows.append(
                    {"images": size, "side": side, **found, "images/s of a core": size / found["seconds"] / used}
                )
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--units", type=int, default=40, help="of each worker")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a unit's work takes; a training's is longer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(one_side(chosen.side, chosen.root)))
        return
    facts: dict[str, Any] = {"workers": by_workers(chosen) if chosen.workers != [0] else []}
    facts["images"] = of_images(chosen.images) if chosen.images else []
    write_json(chosen.json, facts | machine())


if __name__ == "__main__":
    main()

"""2,000 units on eight simulated nodes, of which one in a hundred fails: what handing units out costs, and the driver's memory.

``python benchmarks/many_units.py [--units 2000] [--nodes 8] [--seconds 1.0] [--seed 0] [--json FILE]``. A unit's work is
to sleep, so that eight nodes of one CPU each can be simulated on a machine with fewer: what is measured is how long
workers wait for their next unit, not how fast they are. One unit in a hundred, drawn by the seed, fails when it is
first begun: nine of ten such kill their worker (SIGKILL), the tenth raises an error of infrastructure, which ends the
pass over the units, and the same call is made again, as the same command would be. Overhead is the time of all
workers beyond the work, as a share of the work: starts of workers, lost work and passes that began again are in it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import machine, simulated_nodes, write_json

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.errors import InfrastructureError

FAILING, RAISING = 0.01, 0.1  # of all units; of those that fail


class Sleeper:
    """Sleeps for each unit; those that are to fail do so the first time."""

    def __init__(self, folder: Path, seconds: float, failing: Mapping[str, str]) -> None:
        self.folder, self.seconds, self.failing = folder, seconds, failing

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        name, began = str(task["name"]), time.time()
        with (self.folder / "begun").open("a", encoding="utf-8") as file:
            file.write(f"{name} {os.getpid()} {began}\n")
        time.sleep(self.seconds * (0.5 if name in self.failing else 1))
        if name in self.failing and self.first(name):
            if self.failing[name] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InfrastructureError(f"{name}: made to fail")
        return {"rows": pa.table({"unit": [name], "seconds": [time.time() - began]})}

    def first(self, name: str) -> bool:
        """Whether this unit has not failed before."""
        try:
            (self.folder / f"failed-{name}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def watch(memory: list[float], stop: threading.Event) -> None:
    """This process's memory in MB, every second."""
    page = os.sysconf("SC_PAGE_SIZE")
    while not stop.wait(1):
        memory.append(int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * page / 1e6)


def drawn(units: list[str], seed: int) -> dict[str, str]:
    """The units that fail, and how."""
    failing = random.Random(seed).sample(units, round(FAILING * len(units)))  # noqa: S311
    raising = {*failing[: round(RAISING * len(failing))]}
    return {name: "raised" if name in raising else "killed" for name in failing}


def passes(folder: Path, names: list[str], seconds: float, failing: Mapping[str, str], nodes: int) -> int:
    """Make all units, calling again after each error of infrastructure; returns the number of calls."""
    calls = 0
    while True:
        calls += 1
        try:
            with session_of(ResourcesConfig(workers=nodes)) as session:
                make = partial(Sleeper, folder, seconds, failing)
                run_units(session, "embed", Units(folder / "units"), names, make, models=False)
            return calls
        except InfrastructureError as error:
            print(f"call {calls} ended: {str(error)[:100]}", flush=True)


def measured(folder: Path, names: list[str], chosen: argparse.Namespace) -> dict[str, Any]:
    """Make the units on the cluster that RAY_ADDRESS names; the figures."""
    failing, memory, stop = drawn(names, chosen.seed), list[float](), threading.Event()
    threading.Thread(target=watch, args=(memory, stop), daemon=True).start()
    began, clock = time.monotonic(), time.time()
    calls = passes(folder, names, chosen.seconds, failing, chosen.nodes)
    wall = time.monotonic() - began
    stop.set()
    units = Units(folder / "units")
    work = sum(pq.read_table(units[name] / "rows.parquet")["seconds"][0].as_py() for name in names)
    lines = [line.split() for line in (folder / "begun").read_text("utf-8").splitlines()]
    begun, first = Counter(name for name, *_ in lines), dict[str, float]()
    for _, worker, second in lines:
        first.setdefault(worker, float(second) - clock)
    start = mean(sorted(first.values())[: chosen.nodes])
    half = memory[len(memory) // 2 :]
    return {
        "units": len(names),
        "units committed": len(units.done()),
        "units that failed": dict(Counter(failing.values())),
        "units begun again": sum(begun.values()) - len(begun),
        "nodes": chosen.nodes,
        "calls": calls,
        "work, seconds of all workers": work,
        "wall, seconds": wall,
        "start of the first workers, seconds, mean": start,
        "overhead": wall * chosen.nodes / work - 1,
        "overhead after one start of the workers": (wall - start) * chosen.nodes / work - 1,
        "load of the machine when it ended, averages of 1, 5 and 15 minutes": os.getloadavg(),
        "driver memory, MB, every tenth of the run": [round(m) for m in memory[:: max(1, len(memory) // 10)]],
        "driver memory, MB, growth over the second half": half[-1] - half[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a unit's work takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        with simulated_nodes(chosen.nodes):
            facts = measured(folder, [f"{number:06d}" for number in range(chosen.units)], chosen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for key, value in (facts | machine()).items():
        print(f"{key}: {value if not isinstance(value, float) else round(value, 3)}")
    write_json(chosen.json, facts | machine())


if __name__ == "__main__":
    sys.exit(main())

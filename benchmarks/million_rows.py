"""A million planned rows with a generator that does nothing: what planning, units, filter and files cost by themselves.

``python benchmarks/million_rows.py [--rows 1000000] [--json FILE]``. Two groups, 200 adapters. The plan is made and
written, its units run on Ray Data by actors that give every row random scores and 100 bytes in place of an image, the
filter decides, and the accepted rows are laid out as an image folder. One run is killed half-way, and what its resume
takes to find out what is left is told. Memory is that of this process, the driver.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import machine, write_json

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import FilterConfig, ResourcesConfig, SynthesizeConfig
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.exports.formats import write_folder
from fairsynth.groups import Group
from fairsynth.stages.synthesize.generate import SEEN, PlannedRows
from fairsynth.stages.synthesize.image_plan import Source, plan_images
from fairsynth.stages.synthesize.output import TABLE, accepted
from fairsynth.stages.synthesize.rounds import UNITS_PER_CALL, Rounds, write_table

GROUPS = (Group("low", "building"), Group("high", "flower"))


class Nothing:
    """In place of ``GenerateUnit``: rows of the same columns, drawn from their seeds."""

    def __init__(self, plan: Path) -> None:
        self.rows = PlannedRows(plan)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        planned = self.rows(str(task["name"]))
        rng = np.random.default_rng(int(planned["seed"][0].as_py()))
        n = planned.num_rows
        files = [rng.bytes(100) for _ in range(n)]
        seen = {
            "sha256": [hashlib.sha256(file).hexdigest() for file in files],
            "phash": [rng.bytes(8) for _ in range(n)],
            "look": [rng.bytes(192) for _ in range(n)],
            "constant": np.zeros(n, bool),
            "zero_shot_label": planned["label"].combine_chunks(),
            "zero_shot_attribute": planned["attribute"].combine_chunks(),
            "copy_score": rng.random(n) / 2,
            "copy_of": [None] * n,
        }
        columns = [pa.array(seen[f.name] if f.name in seen else rng.random(n) / 2 + 0.5, f.type) for f in SEEN]
        files_column = pa.array(files, pa.binary())
        table = pa.Table.from_arrays(
            [*planned.columns, *columns, files_column], [*planned.column_names, *SEEN.names, "file"]
        )
        return {"images": table}


def sources() -> dict[Group, list[Source]]:
    """A hundred adapters per group."""
    return {g: [Source("own", f"{g.slug}--{i}", i, f"a photo of {g.label}", 10) for i in range(100)] for g in GROUPS}


def run(out: Path, rows: int) -> dict[str, float]:
    """One whole run: seconds of each part."""
    began, seconds = time.monotonic(), dict[str, float]()
    needed = dict.fromkeys(GROUPS, rows // len(GROUPS))
    plan = plan_images(needed, sources(), 0, 0, 64)
    write_table(plan, out.parent / "plan.parquet")
    del plan
    seconds["planning"] = time.monotonic() - began
    artifact = Artifact(out, Identity("synthesize", 0, {}, {}))
    artifact.open()
    with session_of(ResourcesConfig()) as session:
        rounds = Rounds(
            partial(run_units, session, "synthesize", artifact.units(), per_call=UNITS_PER_CALL),
            artifact,
            SynthesizeConfig(unit_size=64),
            FilterConfig(max_rounds=1),
            0,
            partial(partial, Nothing),
            2.0,
        )
        quota = {group: int(0.75 * n) for group, n in needed.items()}
        began = time.monotonic()
        images, verdict = rounds.until_full(quota, sources())
        seconds["units and filter"] = time.monotonic() - began
    began = time.monotonic()
    table = images.drop_columns(["look"]).append_column("verdict", verdict).append_column("reason", verdict)
    write_table(table, artifact.path / TABLE)
    (out / "synthetic").mkdir()
    seconds["accepted"] = float(write_folder(out / "synthetic", accepted(artifact), ".png"))
    seconds["image folder"] = time.monotonic() - began
    return seconds


def killed_half_way(rows: int) -> float:
    """Seconds until a resumed run, of which half was done, asks for its first unit."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--rows", str(rows), "--out", scratch]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        units = Path(scratch) / "out" / "stages"
        while child.poll() is None:
            time.sleep(1)
            done = sum(len(os.listdir(folder / "units")) for folder in units.glob("*") if (folder / "units").is_dir())
            if done > rows / 64 / 2:
                os.killpg(child.pid, 9)
                break
        child.wait()
        artifact = Artifact(Path(scratch) / "out", Identity("synthesize", 0, {}, {}))
        began = time.monotonic()
        plan = plan_images(dict.fromkeys(GROUPS, rows // len(GROUPS)), sources(), 0, 0, 64)
        units_there = artifact.units()
        units_there.sweep()
        left = set(plan["unit"].unique().to_pylist()) - units_there.done()
        taken = time.monotonic() - began
        print(f"{len(left)} units left", flush=True)
        return taken


def watch(peaks: list[float], stop: threading.Event) -> None:
    """This process's memory in GB, every five seconds."""
    page = os.sysconf("SC_PAGE_SIZE")
    while not stop.wait(5):
        peaks.append(int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * page / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-resume", action="store_true", help="leave out the run that is killed half-way")
    chosen = parser.parse_args()
    if chosen.out:
        run(chosen.out / "out", chosen.rows)
        return
    scratch = Path(tempfile.mkdtemp())
    memory, stop = list[float](), threading.Event()
    threading.Thread(target=watch, args=(memory, stop), daemon=True).start()
    began = time.monotonic()
    facts: dict[str, Any] = {"rows": chosen.rows, **run(scratch / "out", chosen.rows)}
    facts["whole run"] = time.monotonic() - began
    stop.set()
    facts["driver memory, GB, every tenth of the run"] = [round(m, 2) for m in memory[:: max(1, len(memory) // 10)]]
    facts["driver memory, GB, most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    shutil.rmtree(scratch)
    if not chosen.no_resume:
        facts["resume decides after"] = killed_half_way(chosen.rows)
    for key, value in (facts | machine()).items():
        print(f"{key}: {value if not isinstance(value, float) else round(value, 2)}")
    write_json(chosen.json, facts | machine())


if __name__ == "__main__":
    main()

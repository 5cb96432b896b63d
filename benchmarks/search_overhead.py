"""What Ray Tune costs beside the same trainings in a plain loop, on the demo's images.

``python benchmarks/search_overhead.py [--trials 16] [--method erm] [--repeats 2] [--json FILE]``. The demo's training and validation
images at 95 % bias are packed as ``tune`` packs them. Both sides train the same trials to their ends; the loop runs in
as many processes as Ray has workers, each with its share of the trials, so that both have all cores. Ray's own start
is told apart; the start of workers, which import torch, is part of both sides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import machine, run_stage, write_json

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.config.load import load_config
from fairsynth.engine.session import session_of
from fairsynth.engine.trials import run_trials
from fairsynth.stages.tune.search import Search


def packed(folder: Path) -> Path:
    """The demo's packs, from a run of ``ingest`` and ``tune`` with one trial."""
    for stage in ("ingest", "tune"):
        options = ["--tune.methods", "[erm]", "--tune.trials", "1", "--classify.pretrain_epochs", "1"]
        run_stage(stage, "--out", str(folder), *options)
    (stage_folder,) = (folder / "stages").glob("tune-*")
    return stage_folder / "units"


def search_of(packs: Path, folder: Path, method: str, trials: int, seed: int) -> Search:
    """The search for one method's trials."""
    config = load_config(None, "demo", {"tune.methods": [method], "tune.trials": trials})
    return Search(packs, Units(folder / "units"), config.classify, config.tune, seed)


def by_tune(packs: Path, folder: Path, method: str, trials: int, seed: int) -> tuple[float, float]:
    """Seconds of the search, and of Ray's start before it."""
    with session_of(ResourcesConfig()) as session:
        session.connect()
        began = time.monotonic()
        search = search_of(packs, folder, method, trials, seed)
        search.run(lambda some: run_trials(session, "tune", some, folder / "ray"), session.resources.checkpoint_seconds)
        return time.monotonic() - began, session.startup_seconds


def by_loops(packs: Path, folder: Path, method: str, trials: int, seed: int) -> float:
    """Seconds of the same trials in plain loops, one process per worker."""
    with session_of(ResourcesConfig()) as count:
        count.connect()
        workers = count.worker().count
    began = time.monotonic()
    command = [sys.executable, __file__, "--method", method, "--trials", str(trials), "--seed", str(seed)]
    command += ["--packs", str(packs), "--out", str(folder), "--numbers"]
    children = [
        subprocess.Popen([*command, *map(str, share_of(trials, place, workers))], stderr=subprocess.DEVNULL)
        for place in range(workers)
    ]
    if any(child.wait() for child in children):
        raise SystemExit("a loop failed")
    return time.monotonic() - began


def share_of(trials: int, place: int, workers: int) -> list[int]:
    """A process's trials. Pairs of them go round: every other trial has strong changes, and takes four times as long."""
    return [number for number in range(trials) if number // 2 % workers == place]


def loop(search: Search, method: str, numbers: Sequence[int]) -> None:
    """Some of the trials, one after another."""
    torch.set_num_threads(1)
    for task in search._wave(method, numbers, []):
        search.trial(task, 1e9, lambda *progress: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--method", default="erm")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--numbers", type=int, nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--packs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.packs:
        search = search_of(chosen.packs, chosen.out, chosen.method, chosen.trials, chosen.seed)
        loop(search, chosen.method, chosen.numbers)
        return
    scratch = Path(tempfile.mkdtemp())
    packs = packed(scratch / "run")
    ours, loops, starts = [], [], []
    for repeat in range(chosen.repeats):
        arguments: tuple[Any, ...] = (chosen.method, chosen.trials, repeat)
        loops.append(by_loops(packs, scratch / f"loop{repeat}", *arguments))
        seconds, start = by_tune(packs, scratch / f"tune{repeat}", *arguments)
        ours.append(seconds)
        starts.append(start)
        print(f"tune {seconds:.1f} s, loops {loops[-1]:.1f} s", flush=True)
    facts = {
        "trials": chosen.trials,
        "method": chosen.method,
        "tune, s": [round(s, 1) for s in ours],
        "loops, s": [round(s, 1) for s in loops],
        "tune beside loops": round(median(a / b for a, b in zip(ours, loops, strict=True)), 2),
        "Ray's start, s": round(median(starts), 1),
    } | machine()
    print(json.dumps(facts, indent=1))
    write_json(chosen.json, facts)


if __name__ == "__main__":
    main()

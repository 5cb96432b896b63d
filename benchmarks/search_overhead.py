"""What Ray Tune costs beside the same trainings in a plain loop, on the demo's images.

``python benchmarks/search_overhead.py [--trials 16] [--method erm] [--repeats 2] [--json FILE]``. The demo's training and validation
images at 95 % bias are packed as ``tune`` packs them. Both sides train the same trials to their ends; the loop runs in
as many processes as Ray has workers, each with its share of the trials, so that both have all cores. Ray's own start
is told apart; the start of workers, which import torch, is part of both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stacked_vs_peft import machine

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.config.load import load_config
from fairsynth.engine.search import Search
from fairsynth.engine.session import session_of


def packed(folder: Path) -> Path:
    """The demo's packs, from a run of ``ingest`` and ``tune`` with one trial."""
    for stage in ("ingest", "tune"):
        command = [sys.executable, "-m", "fairsynth.cli", stage, "--preset", "demo", "--out", str(folder)]
        command += ["--tune.methods", "[erm]", "--tune.trials", "1", "--classify.pretrain_epochs", "1"]
        subprocess.run(command, check=True, capture_output=True)
    (stage_folder,) = (folder / "stages").glob("tune-*")
    return stage_folder / "units"


def search_of(packs: Path, folder: Path, method: str, trials: int, seed: int) -> Search:
    config = load_config(None, "demo", {"tune.methods": [method], "tune.trials": trials})
    return Search(packs, Units(folder / "units"), config.classify, config.tune, seed)


def by_tune(packs: Path, folder: Path, method: str, trials: int, seed: int) -> tuple[float, float]:
    """Seconds of the search, and of Ray's start before it."""
    with session_of(ResourcesConfig()) as session:
        session.connect()
        began = time.monotonic()
        search_of(packs, folder, method, trials, seed).run(session)
        return time.monotonic() - began, session.startup_seconds


def by_loops(packs: Path, folder: Path, method: str, trials: int, seed: int) -> float:
    """Seconds of the same trials in plain loops, one process per worker."""
    with session_of(ResourcesConfig()) as count:
        count.connect()
        workers = count.worker().count
    began = time.monotonic()
    numbers = [list(range(first, trials, workers)) for first in range(workers)]
    code = (
        "import sys, torch; torch.set_num_threads(1); sys.path.insert(0, {here!r}); from pathlib import Path; "
        "from search_overhead import search_of; search = search_of(Path({packs!r}), Path({out!r}), {method!r}, {trials}, {seed}); "
        "[search.trial(task, 1e9, lambda *told: None) for task in search._wave({method!r}, {mine}, [])]"
    )
    facts = {"here": str(Path(__file__).parent), "packs": str(packs), "out": str(folder)}
    facts |= {"method": method, "trials": trials, "seed": seed}  # type: ignore[dict-item]
    children = [
        subprocess.Popen([sys.executable, "-c", code.format(**facts, mine=mine)], stderr=subprocess.DEVNULL)
        for mine in numbers
    ]
    if any(child.wait() for child in children):
        raise SystemExit("a loop failed")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--method", default="erm")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
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
        "tune beside loops": round(statistics.median(a / b for a, b in zip(ours, loops, strict=True)), 2),
        "Ray's start, s": round(statistics.median(starts), 1),
    } | machine()
    print(json.dumps(facts, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""``python -m tests.chaos.whole_points --points 60 --seed 0 --out FOLDER``: crash points of a whole small run.

An undisturbed run notes each operation by which one of its processes gives a file its content or its name. Of these,
points are drawn; a second run's processes are killed there, half of them alone (the run goes on by itself) and half with
the driver (the same command is called again), until all points are behind it. It must end with 0 and with the files of
the undisturbed run. ``FOLDER/points.json`` tells what was reached; the exit code is 0 only if nothing differed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.attempts import journal
from tests.chaos.compared import compared
from tests.chaos.hooks.sitecustomize import DRIVER, FIRED, PLAN
from tests.chaos.places import environment
from tests.conftest import small_arguments

# Seconds after which a call of the command counts as hung.
_HUNG = 1800
# Runs that the points are spread over at most: a run that ends of itself leaves the rest to the next.
_MOST_RUNS = 4


def called(out: Path, folder: Path, plan: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """Call the command, whose processes die as planned; its exit code and what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps(plan), "utf-8")
    names = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    with subprocess.Popen(
        [sys.executable, "-m", "fairsynth.cli", "run", *small_arguments(out)],
        env=names | environment(folder, CHAOS_ROOT=str(out.resolve())),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        (folder / DRIVER).write_text(str(driver.pid), "utf-8")
        _, said = driver.communicate(timeout=_HUNG)
        return driver.returncode, said


def drawn(there: Sequence[str], most: int, seed: int) -> list[dict[str, Any]]:
    """Points in their order, before or after an operation; every second one takes the driver with it."""
    every = [(point, when) for point in there for when in ("before", "after")]
    chosen = sorted(random.Random(seed).sample(range(len(every)), min(most, len(every))))
    return [
        {"number": n, "point": every[i][0], "when": every[i][1], "whole": bool(n % 2)} for n, i in enumerate(chosen)
    ]


def struck(plan: list[dict[str, Any]], options: argparse.Namespace, expected: Path) -> list[dict[str, Any]]:
    """Runs whose processes die at the planned points, until all are reached or a few runs have ended."""
    runs = list[dict[str, Any]]()
    while not all(_fired(options.out, one) for one in plan) and len(runs) < _MOST_RUNS:
        out, calls = options.out / f"run-{len(runs)}", list[dict[str, Any]]()
        while not calls or calls[-1]["code"] != 0:
            code, said = called(out, options.out, plan if len(calls) <= len(plan) else [])
            calls.append({"code": code, "said": said[-300:]})
            print(f"{out.name}: ended with {code}; {sum(_fired(options.out, one) for one in plan)} points", flush=True)
            if len(calls) > 2 * len(plan) + 5:
                break
        wrong, litter = compared(expected, out) if calls[-1]["code"] == 0 else (["it does not end with 0"], [])
        runs.append({"calls": calls, "differences": wrong, "litter": litter})
        if runs[-1]["differences"]:
            break
    return runs


def _fired(folder: Path, one: dict[str, Any]) -> bool:
    return (folder / f"{FIRED}{one['number']}").exists()


def main(words: Sequence[str] | None = None) -> int:
    """Find the points, let processes die there, compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.whole_points", description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the runs and the results")
    options = parser.parse_args(words)
    expected = options.out / "undisturbed"
    code, said = called(expected, options.out / "undisturbed-journal", [])
    if code:
        raise SystemExit(f"the undisturbed run did not end with 0: {said}")
    lines = journal(options.out / "undisturbed-journal")
    there = list(dict.fromkeys(line["point"] for line in lines if line["what"] == "operation"))
    plan = drawn(there, options.points, options.seed)
    runs = struck(plan, options, expected)
    reached = [one for one in plan if _fired(options.out, one)]
    results = {"points": 2 * len(there), "drawn": len(plan), "reached": len(reached), "plan": plan, "runs": runs}
    (options.out / "points.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    differing = sum(len(run["differences"]) for run in runs)
    calls = sum(len(run["calls"]) for run in runs)
    print(f"{2 * len(there)} points, {len(plan)} drawn, {len(reached)} reached, {calls} calls, {differing} differences")
    return 1 if differing or not reached else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.chaos --strikes 200 --seed 0 --out FOLDER``: whole small runs under seeded strikes.

Strikes kill the driver, workers, nodes, Ray's own processes, or send signals. After each end of the command the same
command is called again, until it ends with 0; then rows, images, adapters, predictions and all other files are compared
with those of an undisturbed run at the same place. Many strikes hit one run. ``FOLDER/chaos.json`` has all that was
seen, ``figures.json`` and ``chaos.txt`` there the figures; the exit code is 0 only if nothing differed, was lost or was made twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.attempts import Outcome, Whole
from tests.chaos.bucket import Bucket
from tests.chaos.compared import compared
from tests.chaos.places import Disk, Nodes
from tests.chaos.summary import digest, passed, text
from tests.conftest import small_arguments

PLACES = {"disk": Disk, "nodes": Nodes, "bucket": Bucket}
# Between strikes, as shares of the undisturbed run's time: machines differ, and a start alone takes a tenth of it.
GAPS = (0.04, 0.3)
SHORT = ("finetune", "evaluate", "report")


def arguments(place: Disk) -> list[str]:
    """Of the small run of tests/conftest.py, but for ``--out``."""
    words = small_arguments(Path("-"), **{name.replace(".", "__"): value for name, value in place.settings.items()})
    where = words.index("--out")
    return words[:where] + words[where + 2 :]


def undisturbed(place: Disk, given: Path | None) -> tuple[Path, float]:
    """The output of a run that nobody strikes, and its seconds: the one given, or one that is made now."""
    if given is not None:
        told = json.loads((given / "progress.json").read_text("utf-8"))
        return given, told["updated_at"] - told["since"]
    whole = Whole(place, "undisturbed", arguments(place), random.Random(0), (0.0, 0.0))
    outcome = whole.run(0)
    if not outcome.finished:
        raise SystemExit(f"the undisturbed run did not end with 0: {outcome.attempts[-1].said}")
    return place.folder_of(whole.out), whole.seconds


def shortened(run: Path, out: Path) -> None:
    """Begin with a copy of a finished run that lacks some stages: adapters, final trainings and the report are made anew."""
    shutil.copytree(run, out, symlinks=True)
    for stage in SHORT:
        (folder,) = (out / "stages").glob(f"{stage}-*")
        shutil.rmtree(folder)


def struck(place: Disk, options: argparse.Namespace) -> list[Outcome]:
    """Whole runs under strikes, until there were as many as asked for."""
    rng, found = random.Random(options.seed), list[Outcome]()
    left = options.strikes
    expected, seconds = undisturbed(place, options.undisturbed)
    least, most = options.gap or (share * seconds for share in GAPS)
    while left > 0:
        whole = Whole(place, f"run-{len(found)}", arguments(place), rng, (least, most))
        if options.short:
            shortened(expected, Path(whole.out))
        outcome = whole.run(min(left, options.per_run))
        if outcome.finished:
            outcome.differences, outcome.litter = compared(expected, place.folder_of(whole.out))
        found.append(outcome)
        left -= len(outcome.strikes)
        print(f"{whole.name}: {len(outcome.strikes)} strikes, {len(outcome.differences)} differences", flush=True)
        if not options.keep and outcome.finished and not outcome.differences:
            shutil.rmtree(place.folder_of(whole.out), ignore_errors=True)
        if not outcome.finished:
            break
    return found


def facts(options: argparse.Namespace) -> dict[str, object]:
    """When, where and by which command."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m tests.chaos", *sys.argv[1:]]),
        "seed": options.seed,
        "cpu": next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        ),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Strike, compare, tell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--strikes", type=int, default=200, help="at each place")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", choices=PLACES, action="append", help="disk alone unless given; may be repeated")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the runs and the results")
    parser.add_argument("--per-run", type=int, default=20, help="most strikes on one whole run")
    parser.add_argument(
        "--gap",
        type=float,
        nargs=2,
        help="least and most seconds between strikes; by default shares of a whole run's time",
    )
    parser.add_argument("--undisturbed", type=Path, help="a finished run to compare with; made first unless given")
    parser.add_argument("--short", action="store_true", help=f"begin with all but {', '.join(SHORT)} finished")
    parser.add_argument("--keep", action="store_true", help="keep the outputs of runs that differ in nothing, too")
    options = parser.parse_args(words)
    # Whoever starts this in the background has SIGINT ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    results = facts(options) | {"places": {}}
    for name in options.place or ["disk"]:
        place = PLACES[name](options.out.resolve() / name)
        place.folder.mkdir(parents=True, exist_ok=True)
        place.start()
        try:
            found = struck(place, options)
        finally:
            place.finish()
        results["places"][name] = {"workers": place.workers, "runs": [outcome.to_json() for outcome in found]}
        (options.out / "chaos.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        (options.out / "figures.json").write_text(json.dumps(digest(results), indent=1) + "\n", "utf-8")
    told = text(results)
    (options.out / "chaos.txt").write_text(told + "\n", "utf-8")
    print(told)
    return 0 if passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())

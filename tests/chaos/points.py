"""Crash points of work that needs no Ray: a process that forks a child for each, lets it die there, and lets another go on.

``python -m tests.chaos.points RUN [--most N] [--seed S]``: RUN is the output of a finished small run, of which a copy is
made. A point is an operation that gives a file its content or a file or folder its name; a child is killed just before
it, another just after it. After each death the same work is done again by a child that nobody kills, and what is then
there is compared with what an undisturbed child left. Prints JSON: for each scene how many points there are, how many
were tried, and what differed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray  # noqa: F401 - a stage asks it whether there is a cluster; here it is imported once, before the forks
import torch

from fairsynth.artifacts import Artifact, Counts
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.engine.session import Session
from fairsynth.models.state_files import read_state, write_state
from fairsynth.pipeline import run
from fairsynth.stages.context import Context
from fairsynth.stages.stage import Made, Stage, run_stage
from fairsynth.stages.views import is_current, new_folder, publish
from fairsynth.work import Task, run_local
from tests.chaos.hooks.sitecustomize import JOURNAL, PLAN, Crashes
from tests.conftest import SMALL
from tests.support.comparing import content_of

_UNITS = ("one", "two", "three")
_STEPS = 3


@dataclass(frozen=True)
class Scene:
    """Work that leaves files below a root: how it is done, what is there afterwards, and how all of it is removed."""

    name: str
    root: Path
    work: Callable[[], object]
    content: Callable[[], dict[str, str]]
    remove: Callable[[], object]


def forked(work: Callable[[], object], folder: Path, root: Path, **plan: object) -> int:
    """Do the work in a child; returns how it ended, as ``os.waitstatus_to_exitcode`` tells it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / PLAN).write_text(json.dumps([{"number": 0, **plan}] if plan else []), "utf-8")
    pid = os.fork()
    if pid == 0:
        try:
            Crashes(str(folder), str(root)).install()
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def points(folder: Path) -> list[str]:
    """The operations that the last child did, in order."""
    lines = map(json.loads, (folder / JOURNAL).read_text("utf-8").splitlines())
    return list(dict.fromkeys(line["point"] for line in lines))


def tried(scene: Scene, folder: Path, most: int, seed: int) -> dict[str, object]:
    """Kill children at points of a scene, at most so many drawn of all; what differed, and where."""
    scene.remove()
    if forked(scene.work, folder, scene.root) != 0:
        raise SystemExit(f"{scene.name} does not work undisturbed")
    expected, there = scene.content(), points(folder)
    every = [(point, when) for point in there for when in ("before", "after")]
    chosen = sorted(random.Random(seed).sample(range(len(every)), min(most, len(every))))
    wrong: list[str] = []
    for point, when in (every[number] for number in chosen):
        scene.remove()
        died = forked(scene.work, folder, scene.root, point=point, when=when)
        went_on = forked(scene.work, folder, scene.root)
        found = scene.content()
        if died != -signal.SIGKILL or went_on != 0:
            wrong.append(f"{when} {point}: ended with {died}, then with {went_on}")
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        wrong += [f"{when} {point}: differs: {name}" for name in differing]
    return {"points": len(every), "tried": len(chosen), "wrong": wrong}


def files_below(*places: Path) -> dict[str, str]:
    """Every file that people or later stages may find, by its name; names that begin with a point are private."""
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    return {str(path): content_of(path) for path in files if not path.name.startswith(".")}


def of_machinery(root: Path) -> Scene:
    """A stage of three units, a record and a view, by the product's own ways to write each."""

    def work(task: Task) -> dict[str, pa.Table]:
        return {"rows": pa.table({"name": [str(task["name"])]}), "more": pa.table({"n": [len(str(task["name"]))]})}

    def artifact(context: Context) -> Artifact:
        return context.artifact("embed", 1, (), {})

    def make(context: Context, artifact: Artifact) -> Made:
        artifact.units().sweep()
        return Made(Counts(3, 3), "three", run_local(artifact.units(), _UNITS, lambda: work))

    def show(context: Context, artifact: Artifact, fresh: bool) -> None:
        target = context.root / "synthetic"
        if fresh or not is_current(target, artifact):
            private = new_folder(target)
            for name in _UNITS:
                shutil.copyfile(artifact.units()[name] / "rows.parquet", private / f"{name}.parquet")
            publish(private, target, artifact)

    def all_of_it() -> None:
        config = RunConfig(out=str(root))
        run_stage(Context(config, root, Session(config.resources)), Stage("embed", artifact, make, show))

    return Scene("units, record and view", root, all_of_it, partial(files_below, root), partial(_anew, root))


def of_checkpoints(root: Path) -> Scene:
    """A training of three steps with a checkpoint after each, by the files that lots and classifiers use."""
    path = root / "lot.safetensors"

    def work() -> None:
        root.mkdir(parents=True, exist_ok=True)
        facts, tensors = read_state(path) or ({"step": 0}, {"weights": torch.zeros(64)})
        for step in range(facts["step"], _STEPS):
            tensors = {"weights": tensors["weights"] * 2 + step}
            write_state(path, tensors, {"step": step + 1})

    return Scene("checkpoints", root, work, lambda: files_below(path), partial(_anew, root))


def of_stage(stage: str, out: Path, views: Sequence[str]) -> Scene:
    """A real stage of a finished run that needs no Ray at this size, and what it lays out for people."""
    config = load_config(preset="demo", overrides=SMALL | {"out": str(out)})

    def places() -> list[Path]:
        return [*(out / "stages").glob(f"{stage}-*"), *(out / view for view in views)]

    def remove() -> None:
        for path in places():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def work() -> None:
        run(config, only=stage, say=lambda line: None)

    return Scene(stage, out, work, lambda: files_below(*places()), remove)


def _anew(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)


def main(words: Sequence[str] | None = None) -> int:
    """Try all scenes; the exit code is 0 if nothing differed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.points", description=__doc__)
    parser.add_argument("run", type=Path, help="output of a finished small run")
    parser.add_argument("--most", type=int, default=10**6, help="points of each real stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "journal"), Path(scratch, "out")
        shutil.copytree(options.run, out, symlinks=True)
        plain = [of_machinery(Path(scratch, "machinery")), of_checkpoints(Path(scratch, "checkpoints"))]
        report = ("classifier", "report.html", "report.json", "predictions.parquet", "trials.csv")
        stages = [of_stage("cluster", out, ()), of_stage("report", out, report)]
        found = {scene.name: tried(scene, folder, 10**6, options.seed) for scene in plain}
        found |= {scene.name: tried(scene, folder, options.most, options.seed) for scene in stages}
    print(json.dumps(found, indent=1))
    return 1 if any(scene["wrong"] for scene in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Sixteen clusters x 100 steps on the demo's data: ``fairsynth finetune`` beside a process per cluster. Wall clock.

``python benchmarks/finetune_vs_processes.py [--repeats 3] [--loop-repeats 1] [--json FILE]``; run it while nothing else
runs. Ours is the whole command in a fresh process, the start of Ray included; what ingest, embed and cluster did before is
not timed, but told. Theirs is a loop that starts ``diffusers_alone.py`` for one cluster after another, and again with two
side by side that share the cores (``--at-once``), which is quicker where so small a model leaves a core idle, and again
by ``accelerate launch``, as the script's own documentation has it, which starts two processes for each. Both train
4 groups x 4 clusters with the same images, prompts, adapters, steps, batches and the plain loss. There is no prior on
either side, and no adapter that all groups share, so that a step is the same work;
VAE and text encoder run in every step of theirs alone, as the script has it by default.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import yaml
from common import in_words, machine, markdown_row, markdown_table, run, run_stage, spread, write_json
from safetensors import safe_open

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.console import prepare_streams
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.sources import demo_folder
from fairsynth.stages.finetune.jobs import AdapterJob, plan_adapters

ALONE = Path(__file__).with_name("diffusers_alone.py")
OFFLINE = {"HF_HUB_OFFLINE": "1"}
GROUPS, WEIGHTS = 4, "pytorch_lora_weights.safetensors"
OURS = "fairsynth finetune"


def write_config(root: Path, k: int, steps: int) -> Path:
    """The demo with as many images in every group, k clusters in each, and adapters without a prior."""
    dataset.write(root / "data", severity=0.5)
    content = {
        "out": str(root / "run"),
        "data": {"format": "folder", "root": str(root / "data")},
        "cluster": {"k": k, "min_size": 1},
        "finetune": {
            "steps": steps,
            "max_epochs": None,
            "batch_size": 4,
            "prior_weight": 0,
            "snr_ceiling": None,
            "validation_share": 0,
        },
        "shared": {"use": False},
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def stage(name: str, path: Path) -> float:
    """Seconds of one stage's command."""
    began = time.perf_counter()
    run_stage(name, str(path), **OFFLINE)
    return time.perf_counter() - began


def record_of(run_folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """The only artifact of a stage, and its record."""
    (folder,) = (run_folder / "stages").glob(f"{name}-*")
    return folder, json.loads((folder / "artifact.json").read_text("utf-8"))


def lay_out(root: Path, config: RunConfig) -> list[tuple[AdapterJob, Path]]:
    """The adapters to train, and a folder with each one's images."""
    run_folder, clusters = root / "run", defaultdict[Group, dict[str, int]](dict)
    paths = {
        row["image_id"]: row["path"]
        for row in pq.read_table(record_of(run_folder, "ingest")[0] / "manifest.parquet").to_pylist()
    }
    for row in pq.read_table(record_of(run_folder, "cluster")[0] / "clusters.parquet").to_pylist():
        clusters[Group(row["label"], row["attribute"])][row["image_id"]] = row["cluster"]
    jobs = []
    for index, job in enumerate(plan_adapters(config.finetune, config.data, clusters, config.seed)):
        folder = root / "clusters" / f"{index:02d}"
        folder.mkdir(parents=True)
        for image in job.image_ids:
            shutil.copy(root / "data" / paths[image], folder)
        jobs.append((job, folder))
    return jobs


def ours(root: Path, path: Path) -> tuple[float, list[Path]]:
    """Seconds of ``fairsynth finetune`` from nothing, and the adapters' files."""
    shutil.rmtree(root / "run" / "adapters", ignore_errors=True)
    for old in (root / "run" / "stages").glob("finetune-*"):
        shutil.rmtree(old)
    seconds = stage("finetune", path)
    return seconds, sorted((record_of(root / "run", "finetune")[0] / "units").glob(f"*/{WEIGHTS}"))


def command_for(
    job: AdapterJob, images: Path, out: Path, config: RunConfig, threads: str, launch: bool = False
) -> list[str]:
    """What trains one adapter without fairsynth, with the same settings."""
    settings = config.finetune
    start = [sys.executable]
    if launch:
        start += [
            "-m",
            "accelerate.commands.launch",
            "--num_processes",
            "1",
            "--num_machines",
            "1",
            "--mixed_precision",
        ]
        start += ["no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", threads]
    return [
        *start, str(ALONE), "--model", str(demo_folder("diffusion")), "--images", str(images),
        "--prompt", job.prompt, "--output", str(out / images.name), "--size", str(config.models.image_size),
        "--steps", str(job.steps), "--batch-size", str(settings.batch_size), "--rank", str(settings.rank),
        "--learning-rate", str(job.learning_rate), "--alpha", str(settings.alpha), "--threads", threads,
        "--target-modules", *settings.target_modules,
    ]  # fmt: skip


def theirs(
    root: Path, config: RunConfig, jobs: Sequence[tuple[AdapterJob, Path]], at_once: int, launch: bool = False
) -> tuple[float, list[Path]]:
    """Seconds of a process per cluster, and the adapters' files."""
    out, threads = root / "theirs", str(max(1, (os.cpu_count() or 1) // at_once))
    shutil.rmtree(out, ignore_errors=True)
    commands = [command_for(job, images, out, config, threads, launch) for job, images in jobs]
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda command: run(command, OMP_NUM_THREADS=threads, **OFFLINE), commands))
    return time.perf_counter() - began, sorted(out.glob(f"*/{WEIGHTS}"))


def weights_in(files: Sequence[Path]) -> list[int]:
    """How many trained weights each file holds."""
    totals = []
    for path in files:
        with safe_open(path, "pt") as handle:
            totals.append(sum(prod(handle.get_slice(key).get_shape()) for key in handle.keys()))
    return totals


def timed(name: str, side: Callable[[], tuple[float, list[Path]]], adapters: int) -> float:
    """Seconds of one side; raises if it did not make as many adapters, all of one size."""
    seconds, files = side()
    made = weights_in(files)
    if len(made) != adapters or len(set(made)) != 1:
        raise SystemExit(f"{name} made {len(made)} adapters of {sorted(set(made))} weights")
    print(f"{name}: {seconds:.1f} s, {len(made)} adapters of {made[0]} weights", flush=True)
    return seconds


def measure(chosen: argparse.Namespace, root: Path) -> dict[str, Any]:
    """All repeats of both sides."""
    path, earlier = write_config(root, chosen.k, chosen.steps), ("ingest", "embed", "cluster")
    config = load_config(str(path), "demo")
    for name in earlier:
        stage(name, path)
    before = {name: record_of(root / "run", name)[1]["seconds"] for name in earlier}
    jobs = lay_out(root, config)
    if len(jobs) != GROUPS * chosen.k or {job.steps for job, _ in jobs} != {chosen.steps}:
        raise SystemExit(f"{len(jobs)} clusters instead of {GROUPS * chosen.k}, or another number of steps")
    seconds: dict[str, list[float]] = defaultdict(list)
    for index in range(max(chosen.repeats, chosen.loop_repeats, chosen.launch_repeats)):
        if index < chosen.repeats:
            seconds[OURS].append(timed(OURS, lambda: ours(root, path), len(jobs)))
        for at_once in chosen.at_once if index < chosen.loop_repeats else ():
            name = "a process per cluster" + (f", {at_once} at once" if at_once > 1 else "")
            seconds[name].append(timed(name, partial(theirs, root, config, jobs, at_once), len(jobs)))
        if index < chosen.launch_repeats:
            name = "a process per cluster, by `accelerate launch`"
            seconds[name].append(timed(name, partial(theirs, root, config, jobs, 1, launch=True), len(jobs)))
    return {"seconds": dict(seconds), "before": before, "images": [len(job.image_ids) for job, _ in jobs]}


def table(seconds: dict[str, list[float]]) -> str:
    """The comparison in Markdown."""
    own = median(seconds[OURS])
    rows = [
        markdown_row([name, f"{spread(values)} s", len(values), f"{median(values) / own:.2f}"])
        for name, values in seconds.items()
    ]
    return markdown_table(["", "wall clock", "runs", "times fairsynth's"], rows)


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--k", type=int, default=4, help="clusters in each of the four groups")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3, help="of fairsynth")
    parser.add_argument("--loop-repeats", type=int, default=1, help="of the loop over processes")
    parser.add_argument("--launch-repeats", type=int, default=1, help="of the loop by accelerate launch")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2], help="processes of the loop side by side")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(chosen, Path(folder))
    facts = machine() | {"clusters": GROUPS * chosen.k, "steps": chosen.steps, "images per cluster": found["images"]}
    print("\n" + table(found["seconds"]) + "\n")
    print(in_words(facts, "; "))
    print(f"made before, not timed above (seconds, start-up included): {found['before']}")
    write_json(chosen.json, {"machine": facts, **found})


if __name__ == "__main__":
    main()

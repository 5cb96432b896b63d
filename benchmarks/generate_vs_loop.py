"""Images of many adapters with the demo's models: fairsynth's actors beside a plain diffusers loop. Images per second.

``python benchmarks/generate_vs_loop.py [--repeats 3] [--json FILE]``; run it while nothing else runs. The loop is what
one would write: one process with all cores, ``load_lora_weights`` for each adapter, batches of 16, PNGs saved. Ours is
the stage's own work on Ray Data, with all that it does besides: CLIP embedding and scores, the search for copies, hashes,
Parquet, fsync. Both use the same adapters (random, rank 8), prompts, seeds, 12 steps of DPM-Solver++ and guidance 2.
The start is left out on all sides (imports, loading of the models, Ray), and told beside. A second loop merges each adapter
with ``fuse_lora`` before and ``unfuse_lora`` after its images. Two works: 4 adapters with 200 images
each, and 32 with 8 each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import apart, in_words, machine, spread, write_json
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from fairsynth.artifacts import Units
from fairsynth.config import ModelsConfig, ResourcesConfig
from fairsynth.config.load import load_config
from fairsynth.console import prepare_streams
from fairsynth.data.copies import THUMBNAIL_BYTES
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.models.schedule import Sampling
from fairsynth.models.sources import demo_folder
from fairsynth.stages.synthesize.image_plan import Source, plan_images

GROUP = Group("low", "building")
STEPS, GUIDANCE, SIZE, UNIT = 12, 2.0, 32, 64
WORK = {"4 adapters x 200 images": (4, 200), "32 adapters x 8 images": (32, 8)}


def write_adapters(folder: Path, count: int) -> None:
    """Random adapters of the demo's shape."""
    from fairsynth.models.adapters import save_adapter
    from fairsynth.models.diffusion import load_denoiser
    from fairsynth.models.stacked import StackedAdapters

    config = load_config(None, "demo", {})
    unet = load_denoiser(config.models).network
    tune = config.finetune
    stack = StackedAdapters(unet, tune.rank, tune.alpha, tune.target_modules)
    for index in range(count):
        row = torch.randn(stack.size, generator=torch.Generator().manual_seed(index)) * 0.02
        target = folder / name(index)
        target.mkdir(parents=True)
        save_adapter(stack.state(row), target, tune.rank, tune.alpha, tune.target_modules, {"name": name(index)})


def name(index: int) -> str:
    """An adapter's folder."""
    return f"low--building--{index}"


def ours(root: Path, adapters: int, each: int) -> tuple[float, float, float]:
    """Images/s without the start, seconds of the start, seconds in all."""
    from fairsynth.engine.session import session_of
    from fairsynth.engine.units import run_units
    from fairsynth.models.probe import Probe
    from fairsynth.stages.synthesize.codec import Codec
    from fairsynth.stages.synthesize.generate import FilterReferences, GenerateUnit

    training, rng = root / "training", np.random.default_rng(0)
    training.mkdir(parents=True)
    for index in range(adapters):
        thumbnails = pa.array([rng.bytes(THUMBNAIL_BYTES) for _ in range(60)], pa.binary(THUMBNAIL_BYTES))
        embeddings = rng.normal(size=(60, 64)).astype(np.float32)
        table = {"image_id": [str(i) for i in range(60)], "embedding": vectors(embeddings), "thumbnail": thumbnails}
        pq.write_table(pa.table(table), training / f"{name(index)}.parquet")
    sources = [Source("own", name(i), i, prompt(i), 1, "", GUIDANCE) for i in range(adapters)]
    plan = plan_images({GROUP: adapters * each}, {GROUP: sources}, 0, 0, UNIT)
    pq.write_table(plan, root / "plan.parquet")
    weights = np.zeros((2, 65), np.float32)
    references = FilterReferences(
        {GROUP: "a low number"}, {}, Probe(("high", "low"), ("building", "flower"), weights, weights), training
    )
    models = ModelsConfig(diffusion="demo", clip="demo", image_size=SIZE)
    make = partial(
        GenerateUnit,
        models,
        Sampling(STEPS),
        root / "plan.parquet",
        root.parent / "adapters",
        references,
        Codec("PNG", "RGB", SIZE),
    )
    units = plan["unit"].unique().to_pylist()
    with session_of(ResourcesConfig()) as session:
        session.connect()
        began = time.perf_counter()
        ran = run_units(session, "benchmark", Units(root / "units"), units, make)
        seconds = time.perf_counter() - began
    return adapters * each / (seconds - ran.startup_seconds), ran.startup_seconds, seconds


def prompt(index: int) -> str:
    """What adapter ``index`` is asked for."""
    return f"a photo of a low number on a building {index % 5}"


def loop(root: Path, adapters: int, each: int, fuse: bool = False) -> tuple[float, float, float]:
    """The same work by diffusers alone; images/s, seconds of the start, seconds in all."""
    began = time.perf_counter()
    pipeline = StableDiffusionPipeline.from_pretrained(demo_folder("diffusion"), safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    root.mkdir(parents=True)
    ready = time.perf_counter()
    for index in range(adapters):
        pipeline.load_lora_weights(str(root.parent / "adapters" / name(index)), adapter_name=f"adapter-number-{index}")
        if fuse:
            pipeline.fuse_lora()
        for start in range(0, each, 16):
            seeds = range(start, min(start + 16, each))
            images = pipeline(
                [prompt(index)] * len(seeds),
                negative_prompt=[""] * len(seeds),
                generator=[torch.Generator().manual_seed(index * 10_000 + seed) for seed in seeds],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                height=SIZE,
                width=SIZE,
            ).images
            for seed, image in zip(seeds, images, strict=True):
                image.save(root / f"{index}-{seed}.png")
        if fuse:
            pipeline.unfuse_lora()
        pipeline.unload_lora_weights()
    done = time.perf_counter()
    return adapters * each / (done - ready), ready - began, done - began


def side_apart(side: str, scratch: Path, work: str, repeat: int) -> tuple[float, float, float]:
    """One side in a process of its own."""
    root = scratch / f"{side.replace(', ', '-')}-{repeat}-{WORK[work][0]}"
    return tuple(apart(__file__, "--side", side, "--root", str(root), "--work", work))  # type: ignore[return-value]


SIDES = {"fairsynth": ours, "loop": loop, "loop, fused": partial(loop, fuse=True)}


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=list(WORK), nargs="+", default=list(WORK))
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=list(WORK), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(SIDES[chosen.side](chosen.root, *WORK[chosen.work])))
        return
    facts: dict[str, Any] = machine()
    with tempfile.TemporaryDirectory() as scratch:
        write_adapters(Path(scratch) / "adapters", max(n for n, _ in WORK.values()))
        for work in chosen.only:
            runs = [{side: side_apart(side, Path(scratch), work, r) for side in SIDES} for r in range(chosen.repeats)]
            facts[work] = {side: medians(runs, side) for side in SIDES}
            print(work, json.dumps(facts[work], indent=1), flush=True)
    print(in_words({key: facts[key] for key in machine()}))
    write_json(chosen.json, facts)


def medians(runs: list[dict[str, tuple[float, float, float]]], side: str) -> dict[str, Any]:
    """Medians of a side, and how many times faster fairsynth is in the same repeat."""
    return {
        "images/s": round(median(run[side][0] for run in runs), 1),
        "start, s": round(median(run[side][1] for run in runs), 1),
        "fairsynth is faster by": spread([run["fairsynth"][0] / run[side][0] for run in runs]),
        "start included": spread([run[side][2] / run["fairsynth"][2] for run in runs]),
    }


if __name__ == "__main__":
    main()

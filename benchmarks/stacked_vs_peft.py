"""Sixteen adapters of the demo's UNet: all at once with fairsynth, beside one after another with peft. Samples per second.

``python benchmarks/stacked_vs_peft.py [--batches 1 4] [--repeats 5] [--json FILE]``; run it while nothing else runs.
Both sides train the same adapters in one process: the same initial weights, draws, losses and AdamW, no prior and no
validation; that the weights come out alike is checked. In favour of peft, its copies of the UNet and its adapters are
made before its clock starts and it uses torch's fastest AdamW; fairsynth's clock counts the whole of ``train``.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn import functional

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import FinetuneConfig
from fairsynth.configuration import load_config
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.diffusion import encode_posteriors, encode_prompts, load_pipeline, load_unet
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.denoising import Latents, Sampler
from fairsynth.stages.stacked_training import StackedTrainer

NAME = "alone"
# Ways in which torch does AdamW; which is the fastest hangs on the machine.
ADAMW: dict[str, dict[str, bool]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


class World(NamedTuple):
    """What both sides train on."""

    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    jobs: list[AdapterJob]
    latents: dict[str, Latents]
    texts: dict[str, torch.Tensor]


class Alone(NamedTuple):
    """One adapter as peft has it, ready to be trained."""

    unet: UNet2DConditionModel
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.AdamW
    sampler: Sampler
    text: torch.Tensor


def make_world(adapters: int, steps: int) -> World:
    """The demo's models, and its training images dealt out to the adapters."""
    preset = load_config(preset="demo")
    pipeline, images = load_pipeline(preset.models), dataset.build(severity=0.5)
    pixels = np.stack([image.pixels for image in images if image.split == "train"])
    mean, std = encode_posteriors(pipeline, pixels)
    jobs, latents = [], {}
    for i in range(adapters):
        prompt, own = f"a photo of a sks{i} number", slice(i, None, adapters)
        ids = tuple(f"image{n}" for n in range(len(mean[own])))
        jobs.append(
            AdapterJob(
                Group("digit", str(i)), 0, ids, prompt, "a number", 100 + i, steps, preset.finetune.learning_rate
            )
        )
        latents[jobs[-1].name] = Latents(mean[own], std[own])
    prompts = sorted({text for job in jobs for text in (job.prompt, job.class_prompt)})
    texts = dict(zip(prompts, encode_prompts(pipeline, prompts).float().cpu(), strict=True))
    return World(*load_unet(preset.models), jobs, latents, texts)


def settings(batch: int) -> FinetuneConfig:
    """The demo preset's adapters and learning rate; the plain loss, no prior, no validation."""
    changed = {"batch_size": batch, "prior_weight": 0.0, "validation_share": 0.0, "snr_ceiling": None}
    return load_config(preset="demo").finetune.model_copy(update=changed)


def prepare(world: World, config: FinetuneConfig, job: AdapterJob, initial: dict[str, Any], adamw: str) -> Alone:
    """A copy of the UNet with a fresh adapter, outside the clock."""
    unet = copy.deepcopy(world.unet)
    unet.add_adapter(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.target_modules)), NAME
    )
    set_peft_model_state_dict(unet, initial, adapter_name=NAME)
    parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.learning_rate, weight_decay=config.weight_decay, **ADAMW[adamw])
    sampler = Sampler(world.latents[job.name], job.seed, config, world.scheduler.config.num_train_timesteps)
    return Alone(unet, parameters, optimizer, sampler, world.texts[job.prompt])


def loop(alone: Alone, scheduler: DDPMScheduler, steps: int, max_norm: float) -> None:
    """The training loop of one adapter."""
    for step in range(steps):
        draw = alone.sampler(step)
        noisy = scheduler.add_noise(draw.clean, draw.noise, draw.times)
        texts = alone.text.expand(len(noisy), -1, -1)
        loss = functional.mse_loss(alone.unet(noisy, draw.times, texts).sample, draw.noise)
        alone.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters, max_norm)
        alone.optimizer.step()


def by_peft(
    world: World, config: FinetuneConfig, jobs: Sequence[AdapterJob], adamw: str
) -> tuple[float, dict[str, Any]]:
    """Seconds of the loops alone, and the trained weights of each adapter."""
    stack = StackedAdapters(world.unet, config.rank, config.alpha, config.target_modules)
    initial = [stack.state(stack.initial(job.seed)) for job in jobs]
    stack.remove()
    prepared = [prepare(world, config, job, state, adamw) for job, state in zip(jobs, initial, strict=True)]
    began = time.perf_counter()
    for alone, job in zip(prepared, jobs, strict=True):
        loop(alone, world.scheduler, job.steps, config.max_grad_norm)
    seconds = time.perf_counter() - began
    states = [get_peft_model_state_dict(alone.unet, adapter_name=NAME) for alone in prepared]
    return seconds, {job.name: state for job, state in zip(jobs, states, strict=True)}


def by_fairsynth(world: World, config: FinetuneConfig, jobs: Sequence[AdapterJob]) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole training call, and the trained weights of each adapter."""
    found: dict[str, Any] = {}
    trainer = StackedTrainer(
        world.unet, world.scheduler, config, world.texts, lambda job: world.latents[job.name], len(jobs)
    )
    began = time.perf_counter()
    trainer.train(jobs, lambda result: found.__setitem__(result.job.name, result.weights))
    return time.perf_counter() - began, found


def fastest_adamw(world: World, config: FinetuneConfig, steps: int) -> str:
    """The AdamW with which peft is fastest here, by short runs of one adapter; the first run only warms up."""
    jobs = [replace(world.jobs[0], steps=steps)]
    by_peft(world, config, jobs, "foreach")
    return min(ADAMW, key=lambda kind: min(by_peft(world, config, jobs, kind)[0] for _ in range(3)))


def apart(world: World, config: FinetuneConfig, ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest difference between two trainings of an adapter, relative to how far peft's has moved from its start."""
    stack = StackedAdapters(world.unet, config.rank, config.alpha, config.target_modules)
    stack.remove()
    found = []
    for job in world.jobs:
        start, one, other = stack.initial(job.seed), stack.row(ours[job.name]), stack.row(theirs[job.name])
        found.append(float((one - other).norm() / (other - start).norm()))
    return max(found)


def compare(world: World, batch: int, repeats: int) -> dict[str, Any]:
    """Both sides in turns: samples per second of every repeat, and how far apart the weights are."""
    config = settings(batch)
    adamw = fastest_adamw(world, config, min(10, world.jobs[0].steps))
    by_fairsynth(world, config, [replace(job, steps=1) for job in world.jobs])
    samples = batch * sum(job.steps for job in world.jobs)
    rates: dict[str, list[float]] = {"peft": [], "stacked": []}
    for index in range(repeats):
        seconds, theirs = by_peft(world, config, world.jobs, adamw)
        rates["peft"].append(samples / seconds)
        seconds, ours = by_fairsynth(world, config, world.jobs)
        rates["stacked"].append(samples / seconds)
        print(f"batch {batch}, round {index}: " + ", ".join(f"{k} {v[-1]:.1f} samples/s" for k, v in rates.items()))
    ratios = [ours / theirs for ours, theirs in zip(rates["stacked"], rates["peft"], strict=True)]
    return {"batch": batch, "adamw": adamw, **rates, "ratio": ratios, "apart": apart(world, config, ours, theirs)}


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} – {high})" if len(values) > 1 else middle


def machine() -> dict[str, Any]:
    """On what, when and how this was measured."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": (names or [platform.processor()])[0],
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("torch", "diffusers", "peft")},
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", *sys.argv]),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison in Markdown."""
    lines = [
        "| batch of each | peft, one after another | fairsynth, all at once | ratio | weights apart | peft's AdamW |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        rates = " | ".join(f"{spread(row[side])} samples/s" for side in ("peft", "stacked"))
        lines.append(f"| {row['batch']} | {rates} | {spread(row['ratio'], 2)} | {row['apart']:.1e} | {row['adamw']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    world = make_world(chosen.adapters, chosen.steps)
    rows = [compare(world, batch, chosen.repeats) for batch in chosen.batches]
    facts = machine() | {name: getattr(chosen, name) for name in ("adapters", "steps", "repeats", "threads")}
    print("\n" + table(rows) + "\n\n" + ", ".join(f"{key}: {value}" for key, value in facts.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

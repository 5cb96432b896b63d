"""Adapters to be trained, and what they are trained on: the demo's, or of tiny networks of other base models' classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from benchmarks.stacked.bases import TINY, TINY_SIZE
from fairsynth.config.load import load_config
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.diffusion import Denoiser, encode_posteriors, encode_prompts, load_denoiser, load_pipeline
from fairsynth.models.families.conditions import Conditions
from fairsynth.stages.finetune.denoising import Latents
from fairsynth.stages.finetune.jobs import AdapterJob

DEMO = "demo"
# Latents of each adapter of a tiny network.
IMAGES = 8


class World(NamedTuple):
    """What all sides train on."""

    denoiser: Denoiser
    jobs: list[AdapterJob]
    latents: dict[str, Latents]
    texts: dict[str, Conditions]
    targets: tuple[str, ...]


def make_world(base: str, adapters: int, steps: int) -> World:
    """What adapters are trained on: the demo, or a tiny network."""
    return demo_world(adapters, steps) if base == DEMO else tiny_world(base, adapters, steps)


def job_of(number: int, images: int, steps: int, rate: float) -> AdapterJob:
    """An adapter of so many images."""
    prompt, ids = f"a photo of a sks{number} number", tuple(f"image{n}" for n in range(images))
    return AdapterJob(Group("digit", str(number)), 0, ids, prompt, "a number", 100 + number, steps, rate)


def tiny_world(name: str, adapters: int, steps: int) -> World:
    """A tiny network of a base model's class; weights, latents and texts are random."""
    torch.manual_seed(0)
    base, rate = TINY[name], load_config(preset="demo").finetune.learning_rate
    jobs = [job_of(number, IMAGES, steps, rate) for number in range(adapters)]
    shape, facts = (IMAGES, *base.latents(TINY_SIZE)), base.facts(IMAGES, TINY_SIZE)
    of_one = {key: value[:1] for key, value in facts.items()}
    latents = {
        job.name: Latents(torch.randn(shape).numpy(), np.full(shape, 0.1, np.float32), None, facts, of_one)
        for job in jobs
    }
    texts = {text: base.texts() for text in sorted({text for job in jobs for text in job.texts})}
    denoiser = base.denoiser(base.network("cpu", torch.float32))
    return World(denoiser, jobs, latents, texts, tuple(base.family.targets))


def demo_world(adapters: int, steps: int) -> World:
    """The demo's models, and its training images dealt out to the adapters."""
    preset = load_config(preset="demo")
    pipeline, images = load_pipeline(preset.models), dataset.build(severity=0.5)
    pixels = np.stack([image.pixels for image in images if image.split == "train"])
    mean, std = encode_posteriors(pipeline, pixels)
    jobs, latents = [], {}
    for i in range(adapters):
        own = slice(i, None, adapters)
        jobs.append(job_of(i, len(mean[own]), steps, preset.finetune.learning_rate))
        latents[jobs[-1].name] = Latents(mean[own], std[own])
    prompts = sorted({text for job in jobs for text in (job.prompt, job.class_prompt)})
    told = encode_prompts(pipeline, prompts)["text"].float().cpu()
    texts: dict[str, Conditions] = {prompt: {"text": text} for prompt, text in zip(prompts, told, strict=True)}
    return World(load_denoiser(preset.models), jobs, latents, texts, preset.finetune.target_modules)

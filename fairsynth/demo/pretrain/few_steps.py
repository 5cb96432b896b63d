"""Step 6: a few-step sampler for the UNet: an adapter by which four steps without guidance end where twelve guided ones do.

Consistency distillation with guidance (arXiv 2310.04378) in its plainest form: the base solves its guided path from noise to
image once for each caption, and the same network with an adapter learns to see from places on the path where it ends. The
places are the times of diffusers' LCMScheduler, which jumps from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline

from fairsynth.demo.pretrain.corpus import Corpus
from fairsynth.demo.pretrain.training import learning_rate
from fairsynth.demo.pretrain.unet import CaptionTable
from fairsynth.models.stacked import StackedAdapters, gradient

GUIDANCE, STEPS, RANK = 5.0, 4, 16
# Twelve steps, among which are those that a sampler of four steps begins at.
PATH = (999, 919, 839, 759, 672, 585, 499, 419, 339, 259, 172, 86)
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv_in", "conv1", "conv2",
    "conv_shortcut", "time_emb_proj", "conv_out",
)  # fmt: skip
# Of the loss, in latents: errors below it count by their square, larger ones by their size (arXiv 2310.14189, section 3.3).
_HUBER = 0.1


class Paths(NamedTuple):
    """Where the base's guided paths were at the sampler's times, (T, N, C, h, w), where they ended, and their captions."""

    places: torch.Tensor
    ends: torch.Tensor
    captions: list[str]


def times_of(pipeline: StableDiffusionPipeline) -> list[int]:
    """The times of the sampler's steps, from noise on."""
    scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    return [int(time) for time in scheduler.timesteps]


@torch.no_grad()
def solved(pipeline: StableDiffusionPipeline, captions: Sequence[str], seed: int, batch: int = 256) -> Paths:
    """The guided paths of these captions."""
    table, times, parts = CaptionTable(pipeline.text_encoder, pipeline.tokenizer), times_of(pipeline), list[Paths]()
    for start in range(0, len(captions), batch):
        some = list(captions[start : start + batch])
        texts, generator = table([""] * len(some) + some), torch.Generator().manual_seed(seed + start)
        latents, places = torch.randn(len(some), 4, 8, 8, generator=generator), list[torch.Tensor]()
        scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(timesteps=list(PATH))
        for time in scheduler.timesteps:
            if int(time) in times:
                places.append(latents)
            against, towards = pipeline.unet(torch.cat([latents, latents]), time, texts).sample.chunk(2)
            latents = scheduler.step(against + GUIDANCE * (towards - against), time, latents).prev_sample
        parts.append(Paths(torch.stack(places), latents, some))
    places, ends, _ = zip(*parts, strict=True)
    return Paths(torch.cat(places, 1), torch.cat(ends), list(captions))


def distil(
    pipeline: StableDiffusionPipeline, paths: Paths, steps: int, seed: int, batch: int = 128, peak: float = 2e-3
) -> tuple[StackedAdapters, torch.Tensor]:
    """Train the adapter on solved paths: the layers, whose hooks are removed, and its averaged weights, (1, P)."""
    table, times = CaptionTable(pipeline.text_encoder, pipeline.tokenizer), torch.tensor(times_of(pipeline))
    kept = pipeline.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
    stack = StackedAdapters(pipeline.unet.requires_grad_(False), RANK, RANK, TARGETS)
    weights = stack.initial(seed).unsqueeze(0)
    average, optimizer = weights.clone(), torch.optim.AdamW([weights], lr=peak, betas=(0.9, 0.99), weight_decay=0)
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        chosen, place = rng.integers(0, len(paths.ends), batch), torch.from_numpy(rng.integers(0, len(times), batch))
        latents = paths.places[place, chosen]
        with stack.using(weights) as leaves:
            noise = pipeline.unet(latents, times[place], table([paths.captions[i] for i in chosen])).sample
            clean = (latents - (1 - kept[place]).sqrt() * noise) / kept[place].sqrt()
            errors = ((clean - paths.ends[chosen]).square().mean((1, 2, 3)) + _HUBER**2).sqrt() - _HUBER
            weights.grad = gradient(errors.mean().unsqueeze(0), leaves)
        torch.nn.utils.clip_grad_norm_([weights], 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak, 50)
        optimizer.step()
        average.lerp_(weights, 1 - min(0.99, (1 + step) / (10 + step)))
        if step % 50 == 0:
            print(f"few-steps step {step + 1}/{steps} loss {errors.mean().item():.4f}", flush=True)
    stack.remove()
    return stack, average


def train_few_steps(
    pipeline: StableDiffusionPipeline, corpus: Corpus, steps: int, seed: int, paths: int = 4096
) -> tuple[StackedAdapters, torch.Tensor]:
    """Solve paths for captions of the corpus, and distil them."""
    rng = np.random.default_rng((seed, 7))
    captions = corpus.captions(rng.integers(0, len(corpus), paths), rng)
    return distil(pipeline, solved(pipeline, captions, seed), steps, seed)

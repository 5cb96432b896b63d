"""Denoising: from prompts, seeds and a frozen UNet to images, many at once, each depending on itself alone.

``StableDiffusionPipeline.__call__`` as a loop of our own: with a guidance per image, guidance that ends
before the last steps, adapters that are stacked (``fairsynth.models.stacked``) or that change between steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from fairsynth.errors import ConfigError
from fairsynth.models.schedule import SCHEDULERS, Sampling
from fairsynth.models.sources import side_problem

Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Wanted:
    """A batch of images: conditions (N, tokens, width) for and against, a guidance (up to 1: none) and a seed each."""

    positive: torch.Tensor
    negative: torch.Tensor
    guidance: Sequence[float]
    seeds: Sequence[int]


def scheduler_of(pipeline: Any, sampling: Sampling) -> Any:
    """A fresh scheduler with the model's own noise schedule. Raises KeyError for an unknown name."""
    scheduler_class = getattr(diffusers, SCHEDULERS[sampling.scheduler])
    scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(sampling.steps, device=pipeline.device)
    return scheduler


@torch.no_grad()
def denoise(
    pipeline: Any,
    wanted: Wanted,
    size: int,
    sampling: Sampling,
    predict: Predict | None = None,
    adapters: int = 1,
    before_step: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Latents (N, C, h, w) of images of ``size`` pixels, in the VAE's scale.

    ``predict(sample, timestep, conditions)`` is the UNet, or a function in its place. With several ``adapters`` the
    batch is adapter-major and stays so when guidance doubles it. ``before_step(i)`` may change the UNet's weights.
    """
    if pipeline.unet.config.time_cond_proj_dim is not None:
        raise ConfigError(
            "models.diffusion takes guidance as an input of its UNet (guidance distillation), which is not supported; choose "
            "another base model"
        )
    scheduler, predict = scheduler_of(pipeline, sampling), predict or unet_of(pipeline)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in wanted.seeds]
    latents = first_noise(pipeline, generators, size) * scheduler.init_noise_sigma
    strength = torch.tensor(list(wanted.guidance), device=latents.device, dtype=latents.dtype).clamp(min=1)
    guided_steps = round(sampling.guidance_until * sampling.steps) if max(wanted.guidance) > 1 else 0
    both = _doubled(wanted.negative, wanted.positive, adapters)
    extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for index, time in enumerate(scheduler.timesteps):
        if before_step is not None:
            before_step(index)
        sample = scheduler.scale_model_input(latents, time)
        if index < guided_steps:
            halves = predict(_doubled(sample, sample, adapters), time, both)
            against, towards = _halved(halves, adapters)
            noise = against + strength.view(-1, 1, 1, 1) * (towards - against)
        else:
            noise = predict(sample, time, wanted.positive)
        latents = scheduler.step(noise, time, latents, **extra, return_dict=False)[0]
    return latents


def first_noise(pipeline: Any, generators: Sequence[torch.Generator], size: int) -> torch.Tensor:
    """One image's noise per generator: drawn on the CPU in float32, so it is the same on every device."""
    if size % pipeline.vae_scale_factor:
        raise ConfigError(side_problem(size, pipeline.vae_scale_factor))
    side, channels = size // pipeline.vae_scale_factor, pipeline.unet.config.in_channels
    noise = torch.cat([torch.randn((1, channels, side, side), generator=generator) for generator in generators])
    return noise.to(pipeline.device, pipeline.unet.dtype)


def unet_of(pipeline: Any) -> Predict:
    """The pipeline's UNet as a plain function."""
    return lambda sample, time, conditions: pipeline.unet(
        sample, time, encoder_hidden_states=conditions, return_dict=False
    )[0]


@torch.no_grad()
def to_pixels(pipeline: Any, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode latents: uint8 (N, size, size, 3)."""
    images = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    images = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return (images * 255).round().astype(np.uint8)  # type: ignore[no-any-return]


def _doubled(first: torch.Tensor, second: torch.Tensor, adapters: int) -> torch.Tensor:
    """Both batches as one; of each adapter first the one, then the other."""
    shape = (adapters, -1, *first.shape[1:])
    return torch.cat([first.view(shape), second.view(shape)], 1).flatten(0, 1)


def _halved(both: torch.Tensor, adapters: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = both.view(adapters, 2, -1, *both.shape[1:]).unbind(1)
    return first.flatten(0, 1), second.flatten(0, 1)

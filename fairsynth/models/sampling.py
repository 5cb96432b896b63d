"""Denoising: from prompts, seeds and a frozen network to images, many at once, each depending on itself alone.

The call of a diffusers pipeline as a loop of our own: with a guidance per image, guidance that ends before the last
steps, adapters that are stacked (``fairsynth.models.stacked``) or that change between steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairsynth.data.shapes import Shape, shape_of
from fairsynth.errors import ConfigError
from fairsynth.models.families.conditions import Conditions, joined, mapped
from fairsynth.models.families.family import Family
from fairsynth.models.families.table import family_of
from fairsynth.models.schedule import Sampling
from fairsynth.models.sources import side_problem

Predict = Callable[[torch.Tensor, torch.Tensor, Conditions], torch.Tensor]


@dataclass(frozen=True)
class Wanted:
    """A batch of images: what the network is told for and against, a guidance (up to 1: none) and a seed each."""

    positive: Conditions
    negative: Conditions
    guidance: Sequence[float]
    seeds: Sequence[int]


@torch.no_grad()
def denoise(
    pipeline: Any,
    wanted: Wanted,
    size: int | Shape,
    sampling: Sampling,
    predict: Predict | None = None,
    adapters: int = 1,
    before_step: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Latents (N, C, h, w) of images of a size (a square's side, or height and width), in the network's scale.

    ``predict(sample, timestep, conditions)`` is the network, or a function in its place. With several ``adapters`` the
    batch is adapter-major and stays so when guidance doubles it. ``before_step(i)`` may change the network's weights.
    """
    family = family_of(pipeline)
    scheduler, predict = family.scheduler(pipeline, sampling, size), predict or network_of(pipeline)
    if pipeline.device.type == "cuda" and hasattr(scheduler, "set_begin_index"):
        # Else it looks for the first step among its times, for which the host waits for the device.
        scheduler.set_begin_index(0)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in wanted.seeds]
    # Schedulers of flows begin with the noise as it is.
    latents = first_noise(pipeline, generators, size) * getattr(scheduler, "init_noise_sigma", 1.0)
    wide = torch.promote_types(latents.dtype, torch.float32)  # a guidance of 5.1 is not one of 5.09
    strength = torch.tensor(list(wanted.guidance), device=latents.device, dtype=wide).clamp(min=1).view(-1, 1, 1, 1)
    guided = max(wanted.guidance) > 1 and family.takes_guidance(pipeline)
    guided_steps = round(sampling.guidance_until * sampling.steps) if guided else 0
    facts = _facts(family, size, latents)
    positive, both = wanted.positive | facts, _both(wanted.negative | facts, wanted.positive | facts, adapters)
    extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    scaled = getattr(scheduler, "scale_model_input", lambda sample, time: sample)
    for index, time in enumerate(scheduler.timesteps):
        if before_step is not None:
            before_step(index)
        sample = scaled(latents, time)
        if index < guided_steps:
            halves = predict(_doubled(sample, sample, adapters), time, both)
            against, towards = _halved(halves, adapters)
            noise = against + (strength * (towards - against)).to(against.dtype)
        else:
            noise = predict(sample, time, positive)
        latents = scheduler.step(noise, time, latents, **extra, return_dict=False)[0]
    return latents


def _facts(family: Family, size: int | Shape, latents: torch.Tensor) -> Conditions:
    """What the network is told of images that are made whole, besides their texts."""
    facts = family.image_facts(np.tile(np.array(shape_of(size)), (len(latents), 1)), size)
    return {name: torch.from_numpy(value).to(latents.device) for name, value in facts.items()}


def first_noise(pipeline: Any, generators: Sequence[torch.Generator], size: int | Shape) -> torch.Tensor:
    """One image's noise per generator: drawn on the CPU in float32, so it is the same on every device.

    Raises ConfigError for a size that the model's images cannot have.
    """
    family = family_of(pipeline)
    network, factor = family.network_of(pipeline), family.sides_multiple_of(pipeline)
    for side in shape_of(size):
        if side % factor:
            raise ConfigError(side_problem(side, factor))
    shape = (1, *family.latent_shape(pipeline, size))
    noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
    noise = noise.to(torch.promote_types(network.dtype, noise.dtype) if family.wide_latents else network.dtype)
    if pipeline.device.type == "cuda":
        # From pinned memory, or the host would wait for all that the device still has to do.
        return noise.pin_memory().to(pipeline.device, non_blocking=True)
    return noise.to(pipeline.device)


def network_of(pipeline: Any, network: Any = None) -> Predict:
    """The pipeline's network, or another one of its kind, as a plain function."""
    family = family_of(pipeline)
    return partial(family.predict, network if network is not None else family.network_of(pipeline))


@torch.no_grad()
def to_pixels(pipeline: Any, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode latents: uint8 (N, H, W, 3)."""
    return Pixels(pipeline, latents).numpy()


class Pixels:
    """Latents that are being decoded: on a GPU the pixels are on their way while the host goes on with the next batch."""

    @torch.no_grad()
    def __init__(self, pipeline: Any, latents: torch.Tensor) -> None:
        images = family_of(pipeline).decode(pipeline, latents)
        shares = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        # Rounded where they are: a quarter of the bytes travels.
        there_NHW3 = (shares * 255).round().to(torch.uint8).contiguous()
        self.values, self.arrived = there_NHW3, None
        if there_NHW3.device.type == "cuda":
            self.values = torch.empty(there_NHW3.shape, dtype=torch.uint8, pin_memory=True)
            self.values.copy_(there_NHW3, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def numpy(self) -> NDArray[np.uint8]:
        """uint8 (N, H, W, 3), once they are there. Any thread may ask."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.numpy()  # type: ignore[no-any-return]


def _both(first: Conditions, second: Conditions, adapters: int) -> Conditions:
    """Both batches of conditions as one."""
    even = joined([first, second])
    n = len(next(iter(first.values())))
    return mapped(lambda value: _doubled(value[:n], value[n:], adapters), even)


def _doubled(first: torch.Tensor, second: torch.Tensor, adapters: int) -> torch.Tensor:
    """Both batches as one; of each adapter first the one, then the other."""
    shape = (adapters, -1, *first.shape[1:])
    return torch.cat([first.reshape(shape), second.reshape(shape)], 1).flatten(0, 1)


def _halved(both: torch.Tensor, adapters: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = both.view(adapters, 2, -1, *both.shape[1:]).unbind(1)
    return first.flatten(0, 1), second.flatten(0, 1)

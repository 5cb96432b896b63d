"""The base model as the pipeline uses it, of whatever family: load and encode."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray

from fairsynth.config import FrozenWeights, ModelsConfig
from fairsynth.models.device import pick_device
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.families.family import Family
from fairsynth.models.families.noise import Noise
from fairsynth.models.families.table import family_of
from fairsynth.models.hub.foreign import require_safe
from fairsynth.models.hub.recognise import base_family, require_trainable
from fairsynth.models.int8 import quantise
from fairsynth.models.sources import diffusion_source


@dataclass(frozen=True)
class Denoiser:
    """What training needs: the frozen network, how images are noised for it, and how it is called."""

    network: Any
    noise: Noise
    family: Family

    def __call__(
        self, sample_NCHW: torch.Tensor, times_N: torch.Tensor, conditions: Conditions, network: Any = None
    ) -> torch.Tensor:
        """The prediction of the network, or of another one of its kind, (N, C, h, w)."""
        return self.family.predict(self.network if network is None else network, sample_NCHW, times_N, conditions)

    def by(self, network: Any) -> Denoiser:
        """The same with another network of its kind."""
        return replace(self, network=network)


def load_pipeline(models: ModelsConfig) -> Any:
    """The base model's pipeline (safetensors only), frozen.

    Raises ConfigError, before any weights are loaded, for a model that is not supported or names what is not to be loaded.
    """
    return _load(models, lambda family: ())


def load_text_encoder(models: ModelsConfig) -> Any:
    """The pipeline with nothing but what ``encode_prompts`` needs. Raises as ``load_pipeline``."""
    return _load(models, lambda family: (family.network, "vae"))


@contextmanager
def text_encoder(models: ModelsConfig) -> Iterator[Any]:
    """``load_text_encoder``, whose memory is free again when this ends."""
    held = [load_text_encoder(models)]
    try:
        yield held[0]
    finally:
        held.clear()
        gc.collect()
        torch.cuda.empty_cache()


def load_without_texts(models: ModelsConfig) -> Any:
    """The pipeline with nothing but what ``denoise`` and ``to_pixels`` need. Raises as ``load_pipeline``."""
    return _load(models, lambda family: family.text_parts)


def load_autoencoder(models: ModelsConfig) -> Any:
    """The pipeline with nothing but what ``encode_posteriors`` needs. Raises as ``load_pipeline``."""
    return _load(models, lambda family: (family.network, *family.text_parts))


def _load(models: ModelsConfig, without: Callable[[Family], Sequence[str]]) -> Any:
    source, family = _checked_source(models)
    left_out = dict.fromkeys(without(family))
    pipeline = family.load(source, models.diffusion_revision, getattr(torch, models.dtype), **left_out)
    if family.network not in left_out:
        family.network_of(pipeline).requires_grad_(False)
    return pipeline.to(pick_device())


def _checked_source(models: ModelsConfig) -> tuple[str, Family]:
    """Where the model comes from, and its family. Raises ConfigError, before any weights are loaded, if its predictions are
    unknown, or if it names what is not to be loaded.
    """
    source = diffusion_source(models)
    require_safe("models.diffusion", source, models.diffusion_revision)
    family = base_family(models)
    # Any scheduler's configuration is read alike.
    schedule = DDPMScheduler.load_config(source, subfolder="scheduler", revision=models.diffusion_revision)
    family.check_schedule(schedule, models.diffusion)
    return source, family


def load_denoiser(models: ModelsConfig, frozen_weights: FrozenWeights = "dtype") -> Denoiser:
    """The frozen network, and the noise schedule from the model's own configuration.

    ``frozen_weights``: as the setting of finetune; with int8 the device never holds the whole weights.
    Raises ConfigError for a model whose network predicts what training does not know, or that is not supported or trained.
    """
    source, family = _checked_source(models)
    require_trainable(models)
    network = family.load_network(source, models.diffusion_revision, getattr(torch, models.dtype))
    if frozen_weights == "int8":
        quantise(network, pick_device())
    noise = family.noise(source, models.diffusion_revision)
    return Denoiser(network.to(pick_device()).requires_grad_(False), noise, family)


@torch.no_grad()
def encode_prompts(pipeline: Any, prompts: Sequence[str]) -> Conditions:
    """What the network is told of the prompts, batch first, on the pipeline's device.

    Raises DataError for a prompt that would be cut.
    """
    return family_of(pipeline).encode(pipeline, prompts)


@torch.no_grad()
def encode_posteriors(pipeline: Any, pixels_NHW3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the VAE's posterior, float32 (N, C, h, w) each, in the network's scale."""
    images = (
        torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2).to(pipeline.device, pipeline.vae.dtype)
        / 127.5
        - 1
    )
    mean, std = family_of(pipeline).posterior(pipeline, images)
    return mean.float().cpu().numpy(), std.float().cpu().numpy()

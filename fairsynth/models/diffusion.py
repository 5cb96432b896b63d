"""Stable Diffusion as the pipeline uses it: load, encode, generate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.models.device import pick_device
from fairsynth.models.hub.foreign import require_safe
from fairsynth.models.prompt_lengths import require_whole
from fairsynth.models.sampling import Wanted, denoise, to_pixels
from fairsynth.models.schedule import Sampling, check_prediction
from fairsynth.models.sources import diffusion_source

Embeddings = torch.Tensor


def load_pipeline(models: ModelsConfig) -> StableDiffusionPipeline:
    """Load Stable Diffusion (safetensors only, no safety checker) with DPM-Solver++.

    The safety checker replaces images by black ones without an error, which would poison a
    training set; constant images are rejected by the filter instead.
    """
    pipeline = _load(models)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.unet.requires_grad_(False)
    return pipeline


def load_text_encoder(models: ModelsConfig) -> StableDiffusionPipeline:
    """The pipeline with nothing but what ``encode_prompts`` needs."""
    return _load(models, unet=None, vae=None)


def _load(models: ModelsConfig, **left_out: None) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        _checked_source(models),
        revision=models.diffusion_revision,
        dtype=getattr(torch, models.dtype),
        use_safetensors=True,
        safety_checker=None,
        requires_safety_checker=False,
        feature_extractor=None,
        image_encoder=None,
        **left_out,
    ).to(pick_device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _checked_source(models: ModelsConfig) -> str:
    """Where the model comes from. Raises ConfigError, before any weights are loaded, if its predictions are unknown, or if
    it names what is not to be loaded.
    """
    source, revision = diffusion_source(models), models.diffusion_revision
    require_safe("models.diffusion", source, revision)
    check_prediction(DDPMScheduler.load_config(source, subfolder="scheduler", revision=revision), models.diffusion)
    return source


def load_unet(models: ModelsConfig) -> tuple[UNet2DConditionModel, DDPMScheduler]:
    """What training needs: the frozen UNet, and the noise schedule from the model's own configuration.

    Raises ConfigError for a model whose network predicts what training does not know.
    """
    source, revision = _checked_source(models), models.diffusion_revision
    unet = UNet2DConditionModel.from_pretrained(
        source, subfolder="unet", revision=revision, dtype=getattr(torch, models.dtype), use_safetensors=True
    )
    scheduler = DDPMScheduler.from_pretrained(source, subfolder="scheduler", revision=revision)
    return unet.to(pick_device()).requires_grad_(False), scheduler


@torch.no_grad()
def encode_prompts(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> Embeddings:
    """Text embeddings, (N, tokens, width), on the pipeline's device. Raises DataError for a prompt that would be cut."""
    limit = min(pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.max_position_embeddings)
    require_whole(pipeline.tokenizer, prompts, limit, "models.diffusion")
    return pipeline.encode_prompt(list(prompts), pipeline.device, 1, False)[0]


@torch.no_grad()
def encode_posteriors(
    pipeline: StableDiffusionPipeline, pixels_NHW3: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the VAE's posterior, float32 (N, C, h, w) each, in the UNet's scale."""
    images = (
        torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2).to(pipeline.device, pipeline.vae.dtype)
        / 127.5
        - 1
    )
    posterior = pipeline.vae.encode(images).latent_dist
    scale = pipeline.vae.config.scaling_factor
    return (posterior.mean * scale).float().cpu().numpy(), (posterior.std * scale).float().cpu().numpy()


def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    seeds: Sequence[int],
    size: int,
    steps: int,
    guidance: float,
    latents_only: bool = False,
) -> NDArray[Any]:
    """Generate one image per prompt with DPM-Solver++; image i depends on prompt i and seed i, not on its neighbours.

    Returns uint8 (N, size, size, 3), or float32 latents (N, C, h, w) in the UNet's scale with ``latents_only``.
    """
    wanted = Wanted(
        encode_prompts(pipeline, prompts), encode_prompts(pipeline, negative_prompts), [guidance] * len(prompts), seeds
    )
    latents = denoise(pipeline, wanted, size, Sampling(steps))
    return latents.float().cpu().numpy() if latents_only else to_pixels(pipeline, latents)

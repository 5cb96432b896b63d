"""A tiny random pipeline of Stable Diffusion XL's own classes, its UNet with the blocks of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from fairsynth.config import ModelsConfig
from fairsynth.models.sources import demo_folder

SIZE = 64
# Widths of the text encoders, and of what the second one says of a whole text.
WIDTHS, POOLED, OF_A_SIZE = (16, 24), 20, 8
# The layers per block and the kinds of blocks are XL's, so that layers have its names.
UNET: dict[str, Any] = {
    "sample_size": SIZE // 8,
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 2),
    "norm_num_groups": 4,
    "use_linear_projection": True,
    "cross_attention_dim": sum(WIDTHS),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": OF_A_SIZE,
    "projection_class_embeddings_input_dim": 6 * OF_A_SIZE + POOLED,
}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
    "sample_size": SIZE,
    "scaling_factor": 0.13025,
}
# Of the base model's own scheduler.
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def tokenizer(**options: Any) -> CLIPTokenizer:
    """The demo's: it knows the words of its prompts, and reads 32 tokens."""
    return CLIPTokenizer.from_pretrained(demo_folder("diffusion"), subfolder="tokenizer", **options)


def text_config(width: int, **options: Any) -> CLIPTextConfig:
    """Of a text encoder of this width that goes with the tokenizer."""
    return CLIPTextConfig(
        vocab_size=627,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=625,
        eos_token_id=626,
        pad_token_id=626,
        **options,
    )


def stirred(module: nn.Module, seed: int, spread: float = 0.1) -> Any:
    """The module with noise on all of its weights: as they are made, some are zeros, and others all but that."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return module.requires_grad_(False)


def pipeline(prediction: str = "epsilon") -> StableDiffusionXLPipeline:
    """All parts, float32."""
    torch.manual_seed(0)
    second = text_config(WIDTHS[1], hidden_act="gelu", projection_dim=POOLED)
    return StableDiffusionXLPipeline(
        vae=stirred(AutoencoderKL(**VAE), 1),
        text_encoder=stirred(CLIPTextModel(text_config(WIDTHS[0])), 2),
        text_encoder_2=stirred(CLIPTextModelWithProjection(second), 3),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(pad_token="!"),
        unet=stirred(UNet2DConditionModel(**UNET), 4, 0.05),
        scheduler=EulerDiscreteScheduler(**SCHEDULE, prediction_type=prediction),
        add_watermarker=False,
    )


def models_of(folder: Path, **changed: Any) -> ModelsConfig:
    """Settings with a saved pipeline as the base model."""
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=SIZE, **changed)


def plain(folder: Path) -> StableDiffusionXLPipeline:
    """The saved pipeline as diffusers alone loads it."""
    found = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    found.set_progress_bar_config(disable=True)
    return found

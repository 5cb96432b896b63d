"""A tiny pipeline of Z-Image's real classes with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from torch import nn
from transformers import Qwen3Config, Qwen3Model

from tests.support.models.tiny_flux2 import qwen_tokenizer

WIDTH, SIDE = 16, 32
"""Width of the text encoder; side of the images in pixels, of which four are a token's."""


def tiny_zimage(dtype: torch.dtype = torch.float32, **schedule: Any) -> ZImagePipeline:
    """The pipeline, the same each time; ``schedule``: settings of its scheduler."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 6.0, **schedule}),
        vae=_autoencoder(),
        text_encoder=_qwen(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=_transformer(),
    )
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        nn.Module.to(part, dtype).eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _transformer() -> ZImageTransformer2DModel:
    transformer = ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    # What stands in the place of missing tokens begins as zeros, which would hide that it is in the wrong places.
    nn.init.normal_(transformer.x_pad_token)
    nn.init.normal_(transformer.cap_pad_token)
    return transformer


def _autoencoder() -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    # A random decoder is nearly grey: images that show nothing would prove nothing.
    vae.decoder.conv_out.weight.data.mul_(4)
    return vae


def _qwen(vocabulary: int) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        initializer_range=0.3,
    )
    return Qwen3Model(config)

"""A tiny pipeline of Z-Image's real classes with random weights, its tokenizer of bytes built here."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

WIDTH, SIDE = 16, 32
"""Width of the text encoder; side of the images in pixels, of which four are a token's."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# What Qwen3's own template makes of a single message, and a case that the pipeline must not ask for.
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is false %}<think>{% endif %}"
)


def tokenizer() -> Qwen2Tokenizer:
    """A token per byte, and the chat template."""
    known = [*SPECIAL, *sorted(ByteLevel.alphabet())]
    made = Qwen2Tokenizer({token: number for number, token in enumerate(known)}, [])
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    made.chat_template = _TEMPLATE
    return made


def tiny_zimage(dtype: torch.dtype = torch.float32, **schedule: Any) -> ZImagePipeline:
    """The pipeline, the same each time; ``schedule``: settings of its scheduler."""
    torch.manual_seed(0)
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
    # These are zeros until they are trained: then tokens that stand for nothing would be told from each other by chance alone.
    nn.init.normal_(transformer.x_pad_token)
    nn.init.normal_(transformer.cap_pad_token)
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
    words = tokenizer()
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
            initializer_range=0.3,
        )
    )
    scheduler = FlowMatchEulerDiscreteScheduler(**{"shift": 6.0, **schedule})
    pipeline = ZImagePipeline(scheduler, vae, text_encoder.eval(), words, transformer).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    for part in (transformer, vae, text_encoder):
        part.requires_grad_(False)
    return pipeline

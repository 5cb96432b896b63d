"""A Stable Diffusion 3 of a few kilobytes with random weights: real classes, the demo's words, a T5 that may be missing."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from fairsynth.models.sources import demo_folder

SIDE, LATENTS, WIDTH = 32, 4, 48
WORDS = ("a", "photo", "of", "low", "high", "number", "on", "building", "flower", "blur")


def tiny_sd3(t5: bool = True, shift: float = 3.0, dynamic: bool = False) -> StableDiffusion3Pipeline:
    """The pipeline, float32. Its autoencoder halves the side twice; two layers, the second with two attentions."""
    torch.manual_seed(0)
    tokenizers = [CLIPTokenizer.from_pretrained(demo_folder("clip"), model_max_length=24) for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=dynamic),
        vae=_autoencoder(),
        text_encoder=_clip(tokenizers[0], 16, 12),
        tokenizer=tokenizers[0],
        text_encoder_2=_clip(tokenizers[1], 24, 20),
        tokenizer_2=tokenizers[1],
        text_encoder_3=_t5() if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    livelier(pipeline.transformer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def livelier(network: torch.nn.Module) -> None:
    """Weights so large that what the network is told, and an adapter, show in an image."""
    for weight in network.parameters():
        weight.mul_(2.5 if weight.dim() > 1 else 1)


def saved_sd3(folder: Path, **how: bool) -> Path:
    """The same as files."""
    tiny_sd3(**how).save_pretrained(folder)
    return folder


def t5_tokenizer() -> T5Tokenizer:
    """Knows a few whole words."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=[*special, *((f"▁{word}", -1.0) for word in WORDS)], extra_ids=0)


def _transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=LATENTS,
        out_channels=LATENTS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENTS,
        norm_num_groups=2,
        layers_per_block=1,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _clip(tokenizer: CLIPTokenizer, width: int, projected: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projected,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=24,
    )
    return CLIPTextModelWithProjection(config)


def _t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=32, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
        )
    )

"""Networks in the shapes of base models, of the real classes and with random weights, and random samples for them.

Speed does not depend on weights. ``FULL`` has the shapes as published: parameters and layers are those of the models, which
a test counts. ``TINY`` are networks of the same classes as small as the demo's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from torch import nn

from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.families.family import Family
from fairsynth.models.families.flow import FlowFamily
from fairsynth.models.families.noise import Diffusion, Flow, Noise
from fairsynth.models.families.table import family_named


class Batch(NamedTuple):
    """Random samples: what goes into the network, and what should come out."""

    noisy: torch.Tensor
    times: torch.Tensor
    conditions: Conditions
    target: torch.Tensor


@dataclass(frozen=True)
class Base:
    """The shape of a base model's network."""

    family: Family
    config: Mapping[str, Any]
    channels: int
    pixels: int
    """Side in pixels of what one latent stands for."""
    told: Mapping[str, tuple[int, ...]]
    """Shape of what the network is told of one text, by name."""

    def network(self, device: str, dtype: torch.dtype) -> Any:
        """The frozen network, with random weights."""
        (network_class,) = self.family.parts[self.family.network].classes
        with torch.device(device):
            network = getattr(diffusers, network_class)(**self.config)
        # diffusers' own would warn.
        return nn.Module.to(network, dtype).requires_grad_(False).train()

    def noise(self) -> Noise:
        """How images are noised for it."""
        if isinstance(self.family, FlowFamily):
            scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
            return Flow(scheduler, self.family.density, self.family.weighs_clean)
        return Diffusion(diffusers.DDPMScheduler())

    def denoiser(self, network: Any) -> Denoiser:
        """A network of this shape as training takes it."""
        return Denoiser(network, self.noise(), self.family)

    def latents(self, size: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the latents of an image of ``size`` pixels."""
        return self.channels, size // self.pixels, size // self.pixels

    def texts(self, *count: int, **where: Any) -> Conditions:
        """What the network is told of so many random texts; all tokens count."""
        found = {name: torch.randn(*count, *shape, **where) for name, shape in self.told.items()}
        return {name: torch.ones_like(value).bool() if name == "mask" else value for name, value in found.items()}

    def facts(self, count: int, size: int) -> dict[str, Any]:
        """What the network is told of so many images of ``size`` pixels."""
        return self.family.image_facts(np.full((count, 2), size), size)

    def batch(self, size: int, samples: int, device: str, dtype: torch.dtype) -> Batch:
        """So many random samples of ``size`` pixels."""
        noise, where = self.noise(), {"device": device, "dtype": dtype}
        noisy = torch.randn(samples, *self.latents(size), **where)
        times = noise.times(noise.draw(samples, torch.Generator().manual_seed(0))).to(device)
        facts = {name: torch.from_numpy(value).to(device) for name, value in self.facts(samples, size).items()}
        return Batch(noisy, times, self.texts(samples, **where) | facts, torch.randn_like(noisy).float())


SD15: Mapping[str, Any] = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "norm_num_groups": 32,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
TINY_SD15: Mapping[str, Any] = {
    **SD15, "sample_size": 8, "layers_per_block": 1, "block_out_channels": (32, 64), "cross_attention_dim": 32,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
_SDXL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20), "use_linear_projection": True, "cross_attention_dim": 2048,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}  # fmt: skip
_TINY_SDXL = _SDXL | {
    "sample_size": 16, "block_out_channels": (32, 64, 96), "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 3), "cross_attention_dim": 64, "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 6 * 16 + 32,
}  # fmt: skip
# Stable Diffusion 3.5 medium.
_SD3 = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "caption_projection_dim": 1536,
    "joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip
_TINY_SD3 = _SD3 | {
    "sample_size": 16, "num_layers": 5, "attention_head_dim": 32, "num_attention_heads": 3,
    "caption_projection_dim": 96, "joint_attention_dim": 128, "pooled_projection_dim": 64, "pos_embed_max_size": 16,
    "dual_attention_layers": (0, 1),
}  # fmt: skip
# FLUX.2 [klein] of 4 B.
_FLUX2 = {
    "in_channels": 128, "num_layers": 5, "num_single_layers": 20, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False,
}  # fmt: skip
_TINY_FLUX2 = _FLUX2 | {
    "in_channels": 16, "num_layers": 2, "num_single_layers": 4, "attention_head_dim": 32, "num_attention_heads": 3,
    "joint_attention_dim": 96, "axes_dims_rope": (8, 8, 8, 8),
}  # fmt: skip
_TINY_ZIMAGE = {
    "dim": 96, "n_layers": 4, "n_refiner_layers": 1, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 64,
    "axes_dims": [8, 12, 12], "axes_lens": [1024, 64, 64],
}  # fmt: skip


def _base(family: str, config: Mapping[str, Any], channels: int, pixels: int, **told: tuple[int, ...]) -> Base:
    return Base(family_named(family), config, channels, pixels, told)


# Tokens: CLIP's 77, behind them T5's 256, Qwen3's 512; for Z-Image a prompt of some sentences, whose number varies.
FULL: Mapping[str, Base] = {
    "sd15": _base("sd", SD15, 4, 8, text=(77, 768)),
    "sdxl": _base("sdxl", _SDXL, 4, 8, text=(77, 2048), pooled=(1280,)),
    "sd3": _base("sd3", _SD3, 16, 8, text=(77 + 256, 4096), pooled=(2048,)),
    "flux2": _base("flux2", _FLUX2, 128, 16, text=(512, 7680)),
    "zimage": _base("zimage", {}, 16, 8, text=(128, 2560), mask=(128,)),
}
TINY: Mapping[str, Base] = {
    "sd15": _base("sd", TINY_SD15, 4, 8, text=(24, 32)),
    "sdxl": _base("sdxl", _TINY_SDXL, 4, 8, text=(24, 64), pooled=(32,)),
    "sd3": _base("sd3", _TINY_SD3, 16, 8, text=(24, 128), pooled=(64,)),
    "flux2": _base("flux2", _TINY_FLUX2, 16, 16, text=(24, 96)),
    "zimage": _base("zimage", _TINY_ZIMAGE, 16, 8, text=(24, 64), mask=(24,)),
}
TINY_SIZE = 128

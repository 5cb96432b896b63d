"""Tiny UNets of Stable Diffusion's families, a network with one layer of every form, and rows of adapters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import set_peft_model_state_dict
from torch import nn

from fairsynth.models.stacked import StackedAdapters

RANK, ALPHA, WIDTH, SIDE = 3, 5.0, 16, 8
# Every sort of layer that Stable Diffusion's UNets have.
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv2", "conv",
    "conv_in", "conv_out", "conv_shortcut", "time_emb_proj", "linear_1", "linear_2",
)  # fmt: skip
SD1: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SHAPES: dict[str, dict[str, Any]] = {
    "SD 1": SD1,
    "SD 2": SD1 | {"use_linear_projection": True, "attention_head_dim": (2, 4)},
    "SDXL": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
    },
}


def unet_of(shape: Mapping[str, Any]) -> UNet2DConditionModel:
    """A tiny UNet of a family of Stable Diffusion, float64."""
    torch.manual_seed(0)
    same = {"layers_per_block": 1, "norm_num_groups": 2, "cross_attention_dim": WIDTH, "attention_head_dim": 2}
    unet = UNet2DConditionModel(**{"sample_size": SIDE, **same, **shape})
    return nn.Module.to(unet, torch.float64).requires_grad_(False)


def rows_of(stack: StackedAdapters, count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """So many different adapters that change what is computed."""
    return torch.randn(count, stack.size, generator=torch.Generator().manual_seed(2), dtype=dtype) * 0.2


def with_peft(network: nn.Module, state: Mapping[str, torch.Tensor], targets: Sequence[str]) -> nn.Module:
    """A copy of the network with an adapter by peft."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets))
    network = inject_adapter_in_model(config, copy.deepcopy(network), adapter_name="a")
    left = set_peft_model_state_dict(network, dict(state), adapter_name="a")
    assert not left.unexpected_keys
    return network


class Layers(nn.Module):
    """One layer of every form, none of which follows another: samples that get mixed up show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.ModuleDict(
            {
                "linear": nn.Linear(6, 7),
                "unbiased": nn.Linear(6, 5, bias=False),
                "pointwise": nn.Conv2d(6, 7, 1),
                "sparse": nn.Conv2d(6, 7, 1, stride=2),
                "padded": nn.Conv2d(6, 7, 1, padding=1),
                "strided": nn.Conv2d(6, 7, 3, stride=2, padding=1),
                "oblong": nn.Conv2d(6, 7, (1, 3), padding="same", bias=False),
            }
        ).double()
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of an image (N, 6, h, w): what each layer makes of it."""
        return [
            layer(x.flatten(2).transpose(1, 2) if name in ("linear", "unbiased") else x)
            for name, layer in self.inside.items()
        ]


LAYERS = tuple(Layers().inside)

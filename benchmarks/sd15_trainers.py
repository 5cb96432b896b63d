"""A UNet of SD 1.5's shape with random weights, and the steps that train it: the trainers that ``stacked_sd15.py`` compares.

A library beside ``common``, for it has one meaning: ``stacked_sd15.py`` runs these trainers, ``generate_sd15.py`` has the
same UNet, and with either of them in one file it would be too long. Needs torch, diffusers and this checkout; peft for the
trainers that are named so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional

# These two need torch alone, and fairsynth itself imports nothing.
from fairsynth.models.stacked import StackedAdapters, gradient
from fairsynth.models.stacked_adamw import StackedAdamW

SD15: dict[str, Any] = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "norm_num_groups": 32,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
TINY = SD15 | {
    "sample_size": 8, "layers_per_block": 1, "block_out_channels": (32, 64), "cross_attention_dim": 32,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
RANK, TARGETS, TOKENS = 16, ("to_q", "to_k", "to_v", "to_out.0"), 77
RATE, DECAY, MAX_NORM = 1e-4, 1e-2, 1.0


class Batch(NamedTuple):
    """Random samples."""

    noisy: torch.Tensor
    times: torch.Tensor
    texts: torch.Tensor
    target: torch.Tensor


Step = Callable[[Batch], None]


def build(chosen: argparse.Namespace) -> UNet2DConditionModel:
    """The frozen UNet."""
    with torch.device(chosen.device):
        unet = UNet2DConditionModel(**(TINY if chosen.smoke else SD15))
    unet = unet.to(torch.bfloat16).requires_grad_(False).train()
    if chosen.channels_last:
        unet.to(memory_format=torch.channels_last)
    if chosen.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


def batch_of(chosen: argparse.Namespace, samples: int) -> Batch:
    """A batch for the UNet."""
    shape, where = TINY if chosen.smoke else SD15, {"device": chosen.device, "dtype": torch.bfloat16}
    noisy = torch.randn(samples, shape["in_channels"], shape["sample_size"], shape["sample_size"], **where)
    if chosen.channels_last:
        noisy = noisy.to(memory_format=torch.channels_last)
    texts = torch.randn(samples, TOKENS, shape["cross_attention_dim"], **where)
    return Batch(
        noisy, torch.randint(0, 1000, (samples,), device=chosen.device), texts, torch.randn_like(noisy).float()
    )


def compiled(chosen: argparse.Namespace, unet: nn.Module) -> Any:
    """The UNet by torch.compile, for one size of batch."""
    torch._dynamo.reset()
    return torch.compile(unet, dynamic=False, **({"backend": "aot_eager"} if chosen.smoke else {"mode": chosen.mode}))


@contextmanager
def stacked(chosen: argparse.Namespace, unet: UNet2DConditionModel, adapters: int) -> Iterator[Step]:
    """N adapters at once; the hooks are gone afterwards."""
    stack = StackedAdapters(unet, RANK, RANK, TARGETS)
    weights = torch.stack([stack.initial(seed) for seed in range(adapters)]).to(chosen.device)
    moments = StackedAdamW(
        torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(adapters, device=chosen.device)
    )
    network = compiled(chosen, unet) if chosen.compile_stacked else unet

    def step(batch: Batch) -> None:
        with stack.using(weights) as leaves:
            errors = (network(*batch[:3]).sample.float() - batch.target).square().mean((1, 2, 3))
            found = gradient(errors.view(adapters, -1).mean(1), leaves)
        moments.step(weights, found, [RATE] * adapters, DECAY, MAX_NORM)

    try:
        yield step
    finally:
        stack.remove()


class PlainLora(nn.Module):
    """A linear layer and its adapter, as simple as can be."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, device = base, base.weight.device
        self.down = nn.Parameter(torch.randn(RANK, base.in_features, device=device) / RANK)
        self.up = nn.Parameter(torch.zeros(base.out_features, RANK, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.linear(x, self.down.to(x.dtype))
        return self.base(x) + functional.linear(hidden, self.up.to(x.dtype))


def with_plain_lora(chosen: argparse.Namespace) -> UNet2DConditionModel:
    """The UNet with such layers in place of its own."""
    unet = build(chosen)
    for name, module in list(unet.named_modules()):
        if any(name.endswith(f".{target}") for target in TARGETS):
            unet.set_submodule(name, PlainLora(module))
    return unet


def with_peft(chosen: argparse.Namespace, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet with peft's adapter in a number format."""
    from peft import LoraConfig

    unet = build(chosen)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS)))
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(dtype) if parameter.requires_grad else parameter.data
    return unet


def alone(unet: UNet2DConditionModel, network: Any, autocast: bool = False) -> Step:
    """The usual training step of one adapter; ``network`` is the UNet, or the UNet compiled."""
    parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast(batch.noisy.device.type, torch.bfloat16, enabled=autocast):
            predicted = network(*batch[:3]).sample
        functional.mse_loss(predicted.float(), batch.target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return step


def alone_by(trainer: str, chosen: argparse.Namespace) -> Step:
    """A one-adapter trainer by its name."""
    if trainer.startswith("peft"):
        dtype = torch.bfloat16 if trainer == "peft-bf16" else torch.float32
        unet = with_peft(chosen, dtype)
        return alone(unet, unet, autocast=dtype == torch.float32)
    unet = with_plain_lora(chosen)
    return alone(unet, compiled(chosen, unet) if trainer == "compiled" else unet)

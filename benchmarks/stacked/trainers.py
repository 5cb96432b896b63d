"""Steps that train adapters of a frozen network: many at once, and the ways to train one.

One step is forward, backward, clipping and AdamW on a batch that is there already, in every trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stacked.bases import Base, Batch
from fairsynth.models.compiled import Compiled
from fairsynth.models.stacked import StackedAdapters, gradient
from fairsynth.stages.finetune.stacked_adamw import StackedAdamW

RANK = 16
RATE, DECAY, MAX_NORM = 1e-4, 1e-2, 1.0
ALONE = ("plain", "peft", "peft-bf16", "compiled")
Step = Callable[[Batch], None]


@dataclass(frozen=True)
class How:
    """What is trained, and by which of a GPU's ways. Networks are in bf16."""

    base: Base
    device: str
    channels_last: bool = False
    checkpointing: bool = False
    """Activations are computed again in the backward pass."""
    compiling: str = "default"
    """Mode of torch.compile; ``graphs``: CUDA graphs, as fairsynth has them; on a CPU as good as nothing."""

    cudnn: bool = False
    """Attention by cuDNN's kernels first, not by torch's own order."""

    def network(self) -> Any:
        """The frozen network."""
        network = self.base.network(self.device, torch.bfloat16)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.checkpointing:
            network.enable_gradient_checkpointing()
        return network

    def batch(self, size: int, samples: int) -> Batch:
        """Random samples for it."""
        batch = self.base.batch(size, samples, self.device, torch.bfloat16)
        if self.channels_last:
            batch = batch._replace(noisy=batch.noisy.to(memory_format=torch.channels_last))
        return batch

    def compiled(self, network: nn.Module) -> Any:
        """The network by torch.compile, for one size of batch."""
        torch._dynamo.reset()
        if self.compiling == "graphs" and self.device == "cuda":
            return Compiled(network, dynamic=False, mode="reduce-overhead")
        way = {"backend": "aot_eager"} if self.device == "cpu" else {"mode": self.compiling}
        return torch.compile(network, dynamic=False, **way)

    def predicted(self, network: Any, batch: Batch) -> torch.Tensor:
        """What the network makes of the samples."""
        with cudnn_first() if self.cudnn else nullcontext():
            return self.base.family.predict(network, batch.noisy, batch.times, batch.conditions)


def cudnn_first() -> AbstractContextManager[None]:
    """Attention by cuDNN's kernels where they can, inside."""
    kernels = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    return sdpa_kernel(kernels, set_priority=True)


@contextmanager
def stacked(how: How, network: Any, adapters: int, compiled: bool = False) -> Iterator[Step]:
    """N adapters at once; the hooks are gone afterwards."""
    stack = StackedAdapters(network, RANK, RANK, how.base.family.targets)
    weights = torch.stack([stack.initial(seed) for seed in range(adapters)]).to(how.device)
    moments = StackedAdamW(
        torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(adapters, device=how.device)
    )
    called = how.compiled(network) if compiled else network

    def step(batch: Batch) -> None:
        with stack.using(weights) as leaves:
            errors = (how.predicted(called, batch).float() - batch.target).square().mean((1, 2, 3))
            found = gradient(errors.view(adapters, -1).mean(1), leaves)
        if why := getattr(called, "why", ""):
            raise RuntimeError(f"not compiled: {why}")
        moments.step(weights, found, [RATE] * adapters, DECAY, MAX_NORM)

    try:
        yield step
    finally:
        stack.remove()


def operations(how: How, network: Any, size: int) -> tuple[int, int]:
    """Counted operations of a sample's forward pass, and of a whole step of one adapter, without recomputation."""
    one = how.batch(size, 1)
    network.disable_gradient_checkpointing()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        how.predicted(network, one)
    with stacked(how, network, 1) as step, FlopCounterMode(display=False) as both:
        step(one)
    if how.checkpointing:
        network.enable_gradient_checkpointing()
    return forward.get_total_flops(), both.get_total_flops()


def at_once(how: How, network: Any, size: int, each: int) -> int:
    """How many adapters with so many samples each fairsynth would train at once in the memory that is free now."""
    from fairsynth.config import FinetuneConfig
    from fairsynth.stages.finetune.denoising import Draw
    from fairsynth.stages.finetune.stacked_training import StackedTrainer

    config = FinetuneConfig(batch_size=each, prior_weight=0.0, snr_ceiling=None)
    trainer = StackedTrainer(how.base.denoiser(network), config, {}, lambda job: None)  # type: ignore[arg-type, return-value]
    clean, noise = torch.randn(2, each, *how.base.latents(size))
    facts = {name: torch.from_numpy(value) for name, value in how.base.facts(each, size).items()}
    draw = Draw(clean, noise, torch.full((each,), 500), None, facts)
    stack = StackedAdapters(network, RANK, RANK, how.base.family.targets)
    try:
        return trainer.fitting(stack, draw, how.base.texts(2, device=how.device, dtype=torch.bfloat16))
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


def with_plain_lora(how: How) -> Any:
    """The network with such layers in place of its own."""
    network = how.network()
    for name, module in list(network.named_modules()):
        if any(f".{name}".endswith(f".{target}") for target in how.base.family.targets):
            network.set_submodule(name, PlainLora(module))
    return network


def with_peft(how: How, dtype: torch.dtype) -> Any:
    """The network with peft's adapter in a number format."""
    from peft import LoraConfig

    network, targets = how.network(), list(how.base.family.targets)
    network.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype) if parameter.requires_grad else parameter.data
    return network


def alone(how: How, network: Any, called: Any, autocast: bool = False) -> Step:
    """The usual training step of one adapter; ``called`` is the network, or the network compiled."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast(how.device, torch.bfloat16, enabled=autocast):
            predicted = how.predicted(called, batch)
        functional.mse_loss(predicted.float(), batch.target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return step


def alone_by(trainer: str, how: How) -> Step:
    """A one-adapter trainer by its name."""
    if trainer.startswith("peft"):
        dtype = torch.bfloat16 if trainer == "peft-bf16" else torch.float32
        network = with_peft(how, dtype)
        return alone(how, network, network, autocast=dtype == torch.float32)
    network = with_plain_lora(how)
    return alone(how, network, how.compiled(network) if trainer == "compiled" else network)

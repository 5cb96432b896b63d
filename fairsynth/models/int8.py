"""Frozen weights of one byte each: a network that is trained by adapters alone then takes a quarter to a half of the memory.

Every output of a linear layer has a scale, the largest of its weights / 127, and weights are rounded to its multiples. They
are unpacked where they are used, and again in the backward pass. Where autograd sees the unpacking, as with torchao 0.18, it
keeps the unpacked weights of all layers between both, which takes the memory of the whole ones after all. Needs torch alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# The largest code; -128 is not used, so that weights are as fine on both sides of zero.
_MOST = 127


class Int8Linear(nn.Linear):
    """A frozen linear layer with the weights of another one as int8; it computes in that one's number format.

    ``weight`` is unpacked anew whenever it is asked for: what is written into it is lost.
    """

    def __init__(self, linear: nn.Linear, device: torch.device | str | None = None) -> None:
        # Not that of nn.Linear, which would make weights.
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(device or linear.weight.device)
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        least = torch.finfo(weight.dtype).tiny  # of an output without weights
        scale = (wide.abs().amax(1, keepdim=True) / _MOST).to(weight.dtype).clamp(min=least)
        codes = (wide / scale).round().clamp(-_MOST, _MOST).to(torch.int8)
        # Parameters, because who counts or moves a network's weights looks at those.
        self.codes, self.scale = (nn.Parameter(value, requires_grad=False) for value in (codes, scale))
        self.bias = linear.bias

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The weights, (outputs, inputs), in the layer's number format."""
        return _unpacked(self.codes, self.scale)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.Linear: (..., inputs) to (..., outputs)."""
        return _Product.apply(input, self.codes, self.scale, self.bias)  # type: ignore[no-any-return]


def quantise(network: nn.Module, device: torch.device | str | None = None) -> None:
    """Make the linear layers of a network's blocks ``Int8Linear``, in place, one after the other, on a device.

    Blocks lie in lists of modules and have nearly all weights. What is before and after them stays as it is: there are few
    of each, and an error there goes through all of the network.
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    inside = {module for modules in lists for module in modules.modules() if type(module) is nn.Linear}
    made = dict[nn.Module, Int8Linear]()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in inside:
                assert isinstance(child, nn.Linear)
                made[child] = made.get(child) or Int8Linear(child, device)
                setattr(parent, name, made[child])


def weight_bytes(network: nn.Module) -> int:
    """The bytes of a network's weights."""
    return sum(parameter.nbytes for parameter in network.parameters())


def _unpacked(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return codes.to(scale.dtype) * scale


class _Product(torch.autograd.Function):
    """The product with unpacked weights, of which none is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(codes, scale)
        return functional.linear(x, _unpacked(codes, scale), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return gradients[0] @ _unpacked(*ctx.saved_tensors), None, None, None

"""Data-parallel training: several processes train one network as one would, by sums and norms over all images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Numbers that are added up in one message: large messages are fast, larger ones only cost memory.
_BUCKET = 2**25


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many, and how a tensor is summed over all of them, in place."""

    rank: int = 0
    world: int = 1
    sum: Callable[[Tensor], Any] = field(default=lambda tensor: None)

    @property
    def first(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    @property
    def part(self) -> slice:
        """This process's part of a batch."""
        return slice(self.rank, None, self.world)

    def joined(self, part_MD: Tensor, n: int) -> Tensor:
        """The rows of all processes, in the batch's order (N, D); gradients flow to this process's own rows alone.

        Each process computes the loss of the whole batch, and so its rows get that loss's gradient.
        """
        if self.world == 1:
            return part_MD
        whole = part_MD.new_zeros(n, *part_MD.shape[1:])
        whole[self.part] = part_MD.detach()
        self.sum(whole)
        return whole.index_copy(0, torch.arange(n, device=whole.device)[self.part], part_MD)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up each parameter's gradient over all processes, many small ones in one message."""
        if self.world == 1:
            return
        bucket: list[nn.Parameter] = []
        trained = [p for p in parameters if p.requires_grad]
        for index, parameter in enumerate(trained):
            bucket.append(parameter)
            if index + 1 == len(trained) or sum(p.numel() for p in bucket) >= _BUCKET:
                self._sum_bucket(bucket)
                bucket = []

    def _sum_bucket(self, bucket: list[nn.Parameter]) -> None:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.sum(flat)
        for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over all processes. They differ by rounding alone; the mean keeps the processes equal."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                self.sum(parameter.grad)
                parameter.grad /= self.world

    def agreed(self, value: int) -> int:
        """The first process's value, in every process."""
        number = torch.tensor([value if self.first else 0])
        self.sum(number)
        return int(number)


class _Sum(torch.autograd.Function):
    """A differentiable sum over processes: each one's part changes the results of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        total = values.clone()
        ranks.sum(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        ctx.ranks.sum(total)
        return total, None


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes; torch's own has no form for CPUs."""

    ranks: Ranks

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """As ``nn.BatchNorm2d``."""
        if not self.training:
            return super().forward(images_NCHW)
        # Sums in half precision would lose too much.
        given = images_NCHW.dtype
        images_NCHW = images_NCHW.to(torch.promote_types(given, torch.float32))
        channels, n = images_NCHW.shape[1], images_NCHW.numel() // max(1, images_NCHW.shape[1])
        total = _Sum.apply(torch.cat([images_NCHW.sum((0, 2, 3)), images_NCHW.new_tensor([float(n)])]), self.ranks)
        count = total[channels].detach()
        centred = images_NCHW - (total[:channels] / count)[:, None, None]
        # A second message: squares of what is not centred yet would lose the variance in their rounding.
        variance = _Sum.apply(centred.square().sum((0, 2, 3)), self.ranks) / count
        self._remember((total[:channels] / count).detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(given)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def share_norms(module: nn.Module, ranks: Ranks) -> None:
    """Let all batch normalisations of a network see the images of all processes. The weights' names stay."""
    if ranks.world == 1:
        return
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            shared.to(child.weight.device).train(child.training)
            shared.ranks = ranks
            setattr(module, name, shared)
        else:
            share_norms(child, ranks)

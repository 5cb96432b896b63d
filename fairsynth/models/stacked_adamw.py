"""AdamW over the rows of a matrix: one step for all adapters, each with its own rate, step count and clipping.

Needs torch alone. AdamW: arXiv 1711.05101, as ``torch.optim.AdamW`` and ``clip_grad_norm_`` compute it.
"""

from __future__ import annotations

import torch

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


class StackedAdamW:
    """The moments of N adapters, (N, P) each, and the number of steps that each has done, float64 (N,)."""

    def __init__(self, first_NP: torch.Tensor, second_NP: torch.Tensor, steps_N: torch.Tensor) -> None:
        self.first_NP, self.second_NP, self.steps_N = first_NP, second_NP, steps_N

    @torch.no_grad()
    def step(
        self,
        weights_NP: torch.Tensor,
        gradient_NP: torch.Tensor,
        rates_N: torch.Tensor,
        weight_decay: float,
        max_norm: float,
    ) -> torch.Tensor:
        """Clip each row of the gradient to ``max_norm``, then change the weights in place; returns the norms, (N,)."""
        norms_N = torch.linalg.vector_norm(gradient_NP, dim=1)
        gradient_NP = gradient_NP * (max_norm / (norms_N + 1e-6)).clamp(max=1).unsqueeze(1)
        self.steps_N += 1
        first_bias_N, second_bias_N = 1 - FIRST_DECAY**self.steps_N, 1 - SECOND_DECAY**self.steps_N
        kind = weights_NP.dtype
        self.first_NP.lerp_(gradient_NP, 1 - FIRST_DECAY)
        self.second_NP.mul_(SECOND_DECAY).addcmul_(gradient_NP, gradient_NP, value=1 - SECOND_DECAY)
        weights_NP.mul_((1 - rates_N * weight_decay).to(kind).unsqueeze(1))
        spread_NP = self.second_NP.sqrt().div_(second_bias_N.sqrt().to(kind).unsqueeze(1)).add_(EPSILON)
        weights_NP.sub_(self.first_NP.div(spread_NP).mul_((rates_N / first_bias_N).to(kind).unsqueeze(1)))
        return norms_N

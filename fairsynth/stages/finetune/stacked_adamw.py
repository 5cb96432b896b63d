"""AdamW over the rows of a matrix: one step for all adapters, each with its own rate, step count and clipping.

Needs torch alone. AdamW: arXiv 1711.05101, by torch's own fused kernel, which sees every row as a parameter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch.optim.adamw import adamw

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


class StackedAdamW:
    """The moments of N adapters, (N, P) each, and the number of steps since each row's moments were zero, (N,)."""

    def __init__(self, first_NP: torch.Tensor, second_NP: torch.Tensor, steps_N: torch.Tensor) -> None:
        self.first_NP, self.second_NP, self.steps_N = first_NP, second_NP, steps_N

    @torch.no_grad()
    def step(
        self,
        weights_NP: torch.Tensor,
        gradient_NP: torch.Tensor,
        rates_N: Sequence[float],
        weight_decay: float,
        max_norm: float,
    ) -> torch.Tensor:
        """Clip each row of the gradient to ``max_norm``, in place, then change the weights; returns the norms, (N,)."""
        norms_N = torch.linalg.vector_norm(gradient_NP, dim=1)
        gradient_NP.mul_((max_norm / (norms_N + 1e-6)).clamp(max=1).unsqueeze(1))
        alike: dict[float, list[int]] = defaultdict(list)
        for index, rate in enumerate(rates_N):
            alike[rate].append(index)
        for rate, rows in alike.items():
            adamw(
                [weights_NP[row] for row in rows],
                [gradient_NP[row] for row in rows],
                [self.first_NP[row] for row in rows],
                [self.second_NP[row] for row in rows],
                max_exp_avg_sqs=[],
                state_steps=[self.steps_N[row] for row in rows],
                fused=True,
                amsgrad=False,
                maximize=False,
                beta1=FIRST_DECAY,
                beta2=SECOND_DECAY,
                lr=rate,
                weight_decay=weight_decay,
                eps=EPSILON,
            )
        return norms_N

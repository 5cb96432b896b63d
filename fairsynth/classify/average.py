"""The running mean of a network's weights: steadier than those of any one step, so no epoch need be chosen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# The mean looks back over about 50 steps.
DECAY = 0.98


class Average:
    """An exponential moving average of a state (Polyak and Juditsky 1992; as in Tarvainen and Valpola 2017).

    What a network counts in whole numbers is taken as it is.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {name: value.detach().clone() for name, value in state.items()}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Move the mean towards a state."""
        for name, value in state.items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - DECAY)
            else:
                mean.copy_(value)

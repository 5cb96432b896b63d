"""The running mean of a network's weights: steadier than those of any one step, so no epoch need be chosen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# The mean looks back over about 50 steps; at first over fewer, so that what a network began with soon leaves it.
DECAY = 0.98
_STEPS = "steps"


class Average:
    """An exponential moving average of a state (Polyak and Juditsky 1992; as in Tarvainen and Valpola 2017).

    Step t moves it by 1 - min(DECAY, (1 + t) / (10 + t)). What a network counts in whole numbers is taken as it is.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Move the mean towards a state."""
        self.steps += 1
        share = 1 - min(DECAY, (1 + self.steps) / (10 + self.steps))
        for name, value in state.items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    def kept(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold."""
        return {**self.state, _STEPS: torch.tensor(self.steps)}

    def put_back(self, kept: Mapping[str, Tensor]) -> None:
        """Take what a checkpoint held."""
        for name, mean in self.state.items():
            mean.copy_(kept[name])
        self.steps = int(kept[_STEPS])

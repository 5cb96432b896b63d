"""What a loss has that needs more of a batch than its features: other images, or a second network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify.images import Images
from fairsynth.models.classifier import Classifier
from fairsynth.models.data_parallel import Ranks


@dataclass(frozen=True)
class Parts:
    """What such a loss is made of.

    ``seen`` gives this process's part of a batch as a network sees it, augmented; ``untrained`` a network whose random
    weights come from a seed.
    """

    model: Classifier
    images: Images
    n_labels: int
    n_groups: int
    setting: Mapping[str, float]
    seed: int
    rng: torch.Generator
    ranks: Ranks
    seen: Callable[[Images, NDArray[np.int64]], Tensor]
    untrained: Callable[[int], Classifier]


class BatchLoss(Protocol):
    """The loss of the images at some places; all that it keeps between batches is in its state."""

    @property
    def networks(self) -> Sequence[Classifier]:
        """Networks that are trained beside the classifier."""
        ...

    def __call__(self, index_N: NDArray[np.int64]) -> Tensor:
        """The loss of a batch, the same in every process."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        ...

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Take the state that a checkpoint held."""
        ...

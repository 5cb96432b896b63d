"""Learning from failure (LfF, Nam et al. 2020, arXiv 2007.02561): it needs no attribute of a training image.

A biased network is trained beside the classifier by a loss that prefers what is easy. The classifier learns from the
images that are harder for the biased network than for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify.batch_loss import Parts
from fairsynth.classify.losses import Q, bounded
from fairsynth.models.classifier import Classifier

# How much of a mean is kept when another loss comes.
_KEPT = 0.7


def generalised_cross_entropy(logits_NK: Tensor, labels_N: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q for each image, p the probability of its label (Zhang and Sabuncu 2018, arXiv 1805.07836)."""
    return bounded(torch.nn.functional.cross_entropy(logits_NK, labels_N, reduction="none"), q)


class Difficulty:
    """How hard each training image is for the biased network, relative to both: equation 2 of the paper.

    Each network's loss of an image is a moving mean over epochs, divided by the largest of its label.
    """

    def __init__(self, labels_N: NDArray[np.int64], n_labels: int, device: torch.device) -> None:
        self.labels_N, self.n_labels = torch.from_numpy(labels_N).to(device), n_labels
        self.means_2N = torch.zeros((2, len(labels_N)), device=device)
        """Of the biased network and of the classifier."""
        self.known_N = torch.zeros(len(labels_N), dtype=torch.bool, device=device)

    def weights(self, index_M: Tensor, biased_M: Tensor, own_M: Tensor) -> Tensor:
        """Take a batch's losses and give the weights (M,), from 0 (easy for the biased network) to 1."""
        losses_2M = torch.stack([biased_M, own_M]).detach()
        kept_M = torch.where(self.known_N[index_M], _KEPT, 0.0)
        self.means_2N[:, index_M] = kept_M * self.means_2N[:, index_M] + (1 - kept_M) * losses_2M
        self.known_N[index_M] = True
        biased, own = (self._relative(means_N)[index_M] for means_N in self.means_2N)
        return biased / (biased + own + 1e-8)

    def _relative(self, means_N: Tensor) -> Tensor:
        largest_K = means_N.new_zeros(self.n_labels).scatter_reduce(0, self.labels_N, means_N, "amax")
        return means_N / largest_K.clamp(min=1e-8)[self.labels_N]


class Failure:
    """LfF's loss of a batch: the biased network's, and the classifier's cross-entropy weighted by difficulty."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.biased = parts, parts.untrained(parts.seed + 5)
        self.networks: Sequence[Classifier] = (self.biased,)
        self.difficulty = Difficulty(parts.images.labels, parts.n_labels, self.biased.head.weight.device)

    def __call__(self, index_N: NDArray[np.int64]) -> Tensor:
        """The sum of both networks' losses; neither's gradient reaches the other."""
        parts, n = self.parts, len(index_N)
        # Both see the same augmented images.
        seen = parts.seen(parts.images, index_N)
        biased, own = (
            network.head(parts.ranks.joined(network.features(seen), n)) for network in (self.biased, parts.model)
        )
        labels_N = torch.from_numpy(parts.images.labels[index_N]).to(own.device)
        biased_N, own_N = (
            torch.nn.functional.cross_entropy(logits, labels_N, reduction="none") for logits in (biased, own)
        )
        weights_N = self.difficulty.weights(torch.from_numpy(index_N).to(own.device), biased_N, own_N)
        return generalised_cross_entropy(biased, labels_N, Q).mean() + (weights_N * own_N).mean()

    def state(self) -> dict[str, Tensor]:
        """The biased network, and the losses' moving means."""
        network = {f"biased/{name}": value for name, value in self.biased.state_dict().items()}
        return network | {"means": self.difficulty.means_2N, "known": self.difficulty.known_N}

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Take the state that a checkpoint held."""
        network = {k.removeprefix("biased/"): v for k, v in state.items() if k.startswith("biased/")}
        self.biased.load_state_dict(network)
        self.difficulty.means_2N.copy_(state["means"])
        self.difficulty.known_N.copy_(state["known"])

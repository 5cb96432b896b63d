"""Loss functions with their sources; each agrees with its reference definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# exp of more overflows float32 soon.
_MOST = 80.0
# Of generalised cross-entropy, as its authors have it.
Q = 0.7
FeatureLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The loss of a batch from its features (N, D), labels and groups (N,)."""


def supcon(features_ND: Tensor, labels_N: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, eq. 2, L_out).

    Features are scaled to length 1; anchors without a positive are left out of the mean;
    a batch without any positive gives 0.
    """
    unit = torch.nn.functional.normalize(features_ND, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    positives = (labels_N[:, None] == labels_N[None, :]) & ~itself
    counts = positives.sum(1)
    log_probability = logits.log_softmax(1).masked_fill(~positives, 0.0)
    per_anchor = -log_probability.sum(1) / counts.clamp(min=1)
    anchors = counts > 0
    return per_anchor[anchors].mean() if bool(anchors.any()) else features_ND.sum() * 0.0


def group_weights(groups_N: NDArray[np.int64], n_groups: int) -> Tensor:
    """ReWeight's weights (G,): proportional to 1 / n_g, their sum the number of groups present; absent ones get 0."""
    counts = np.bincount(groups_N, minlength=n_groups)
    weights = np.where(counts > 0, 1 / counts.clip(1), 0.0)
    return torch.tensor(weights / weights.sum() * (counts > 0).sum(), dtype=torch.float32)


def bounded(ce_N: Tensor, q: Tensor | float) -> Tensor:
    """Generalised cross-entropy (Zhang and Sabuncu 2018, arXiv 1805.07836, eq. 6): (1 - p^q) / q, from -log p of each image.

    With q near 0 it is cross-entropy. With a larger one an image that is hopelessly wrong has little gradient: of so many
    images of a large group, those with a wrong label are not learnt by heart. ``q``: of all images, or of each (N,).
    """
    return -torch.expm1(-q * ce_N) / q


def exponents(weights_G: Tensor, n_labels: int) -> Tensor:
    """q of each group (G,), from ``group_weights``: the largest for groups of average size or more, less for smaller ones in
    proportion, for what is rare must be learnt, however hard it is.

    The largest is the authors' with two labels, and with more so much less that who knows nothing yet, and gives each label
    the same probability, learns as much: Q log 2 / log K.
    """
    present_G = weights_G > 0
    sizes_G = torch.where(present_G, 1 / weights_G, 0.0)
    mean = sizes_G.sum() / present_G.sum().clamp(min=1)
    return Q * math.log(2) / math.log(max(2, n_labels)) * (sizes_G / mean).clamp(1e-3, 1)


class GroupDRO:
    """Group-DRO's weights (Sagawa et al. 2020, arXiv 1911.08731, algorithm 1 and section 3.3).

    Per batch: L_g = mean loss of group g (0 if absent), q_g <- q_g exp(step_size (L_g + adjustment / sqrt(n_g))),
    renormalised before the weighted sum; q starts uniform. n_g: images of the group in training; a group without any
    is not adjusted. An infinite loss makes q no number for good.
    """

    def __init__(self, n_groups: int, step_size: float, adjustment: float, counts_G: NDArray[np.int64]) -> None:
        self.step_size = step_size
        self.q_G = torch.full((n_groups,), 1 / n_groups)
        counts = torch.from_numpy(np.asarray(counts_G, np.int64))
        self.adjustments_G = torch.where(counts > 0, adjustment / counts.clamp(min=1).sqrt(), 0.0)

    def __call__(self, losses_N: Tensor, groups_N: Tensor) -> Tensor:
        """The weighted loss of a batch; updates q."""
        one_hot = torch.nn.functional.one_hot(groups_N, len(self.q_G)).to(losses_N.dtype)
        means_G = (one_hot.T @ losses_N) / one_hot.sum(0).clamp(min=1)
        adjusted_G = means_G.detach() + self.adjustments_G.to(means_G)
        grown_G = self.step_size * adjusted_G
        # Renormalising takes away what is taken from all alike: so much that the largest does not overflow.
        q_G = self.q_G.to(losses_N.device) * torch.exp(grown_G - (grown_G.max() - _MOST).clamp(min=0))
        self.q_G = q_G / q_G.sum()
        return self.q_G @ means_G


def group_dro(groups_N: NDArray[np.int64], n_groups: int, setting: Mapping[str, float]) -> GroupDRO:
    """Group-DRO of images of these groups, with a setting's step size and adjustment."""
    counts_G = np.bincount(groups_N, minlength=n_groups)
    return GroupDRO(n_groups, setting["step_size"], setting["adjustment"], counts_G)


def feature_loss(
    loss: str, head: nn.Module, setting: Mapping[str, float], weights_G: Tensor, dro: GroupDRO | None
) -> FeatureLoss:
    """The loss of that name: cross-entropy unless it is reweight, group-dro, supcon or bounded."""

    def of(features_ND: Tensor, labels_N: Tensor, groups_N: Tensor) -> Tensor:
        logits_NK = head(features_ND)
        ce = nn.functional.cross_entropy(logits_NK, labels_N, reduction="none")
        if dro is not None:
            return dro(ce, groups_N)
        if loss == "reweight":
            return (weights_G[groups_N] * ce).mean()
        if loss == "bounded":
            return bounded(ce, exponents(weights_G, logits_NK.shape[1])[groups_N]).mean()
        if loss == "supcon":
            beta = setting["beta"]
            return beta * ce.mean() + (1 - beta) * supcon(features_ND, labels_N, setting["temperature"])
        return ce.mean()

    return of

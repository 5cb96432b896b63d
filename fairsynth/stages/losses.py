"""Loss functions with their sources; each agrees with its reference definition."""

from __future__ import annotations

import torch
from torch import Tensor


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


class GroupDRO:
    """Group-DRO's weights (Sagawa et al. 2020, arXiv 1911.08731, algorithm 1).

    Per batch: L_g = mean loss of group g (0 if absent), q_g <- q_g exp(step_size L_g), renormalised
    before the weighted sum; q starts uniform.
    """

    def __init__(self, n_groups: int, step_size: float) -> None:
        self.step_size = step_size
        self.q_G = torch.full((n_groups,), 1 / n_groups)

    def __call__(self, losses_N: Tensor, groups_N: Tensor) -> Tensor:
        """The weighted loss of a batch; updates q."""
        one_hot = torch.nn.functional.one_hot(groups_N, len(self.q_G)).to(losses_N.dtype)
        means_G = (one_hot.T @ losses_N) / one_hot.sum(0).clamp(min=1)
        q_G = self.q_G.to(losses_N.device) * torch.exp(self.step_size * means_G.detach())
        self.q_G = q_G / q_G.sum()
        return self.q_G @ means_G

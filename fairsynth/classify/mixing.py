"""Selective augmentation: training images mixed with chosen others (LISA, Yao et al. 2022, arXiv 2201.00299).

A batch is mixed within labels (same label, another attribute) or within attributes (same attribute, another label,
and then the labels are mixed, too). Images are blended (mixup) or patched (CutMix); which of them is a value of the
setting, for the authors blend Waterbirds and patch CelebA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify.batch_loss import Parts
from fairsynth.models.classifier import Classifier


def fitting(n_labels: int, n_attributes: int, within_label: bool) -> NDArray[np.bool_]:
    """Which groups are mixed, bool (G, G): those of one label, or of one attribute, that differ in the other."""
    labels, attributes = np.divmod(np.arange(n_labels * n_attributes), n_attributes)
    same_label, same_attribute = (v[:, None] == v[None, :] for v in (labels, attributes))
    return same_label & ~same_attribute if within_label else same_attribute & ~same_label


class Mates:
    """For every image another one to mix it with: a random fitting group that has images, then a random image of it.

    An image that no group fits is mixed the other way, and where there is none either, with itself.
    """

    def __init__(self, groups_N: NDArray[np.int64], n_labels: int, n_attributes: int) -> None:
        self.groups_N = groups_N
        n_groups = n_labels * n_attributes
        self.places = [np.flatnonzero(groups_N == g) for g in range(n_groups)]
        present = np.array([len(places) > 0 for places in self.places])
        ways = [fitting(n_labels, n_attributes, within_label) & present for within_label in (False, True)]
        self.fitting = [
            [np.flatnonzero(one[g] if one[g].any() else other[g]) for g in range(n_groups)]
            for one, other in (ways, ways[::-1])
        ]

    def draw(self, index_N: NDArray[np.int64], within_label: bool, rng: torch.Generator) -> NDArray[np.int64]:
        """The places of the mates."""
        which_group_N, which_image_N = torch.rand((2, len(index_N)), generator=rng, dtype=torch.float64).numpy()
        mates = index_N.copy()
        for i, place in enumerate(index_N):
            groups = self.fitting[within_label][self.groups_N[place]]
            if len(groups):
                places = self.places[groups[int(which_group_N[i] * len(groups))]]
                mates[i] = places[int(which_image_N[i] * len(places))]
        return mates


def beta_2_2(n: int, rng: torch.Generator) -> Tensor:
    """Draws from Beta(2, 2), float32 (n,): the middle one of three even draws is distributed so."""
    return torch.rand((n, 3), generator=rng).median(1).values


def blends(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Mixup: the share of the first image at each pixel, (N, H, W); the same all over an image, from Beta(2, 2)."""
    return beta_2_2(n, rng)[:, None, None].expand(n, height, width)


def patches(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """CutMix (Yun et al. 2019, arXiv 1905.04899): the first image's share at each pixel, 0 or 1, (N, H, W).

    The second image fills a rectangle of the image's shape around a random pixel, cut off at the borders; before that
    its area is 1 - share of the image, with a share from Beta(2, 2).
    """
    sides = (1 - beta_2_2(n, rng)).sqrt()
    centres = torch.rand((2, n), generator=rng)
    inside = []
    for centre, length in zip(centres, (height, width), strict=True):
        half, middle = (sides * length).int() // 2, (centre * length).int()
        pixel = torch.arange(length)
        inside.append((pixel >= (middle - half)[:, None]) & (pixel < (middle + half)[:, None]))
    return 1.0 - (inside[0][:, :, None] & inside[1][:, None, :]).float()


def mixed(one_N3HW: Tensor, two_N3HW: Tensor, shares_NHW: Tensor) -> Tensor:
    """Pixel by pixel the first image's share of it, the rest from the second."""
    shares = shares_NHW.to(one_N3HW)[:, None]
    return shares * one_N3HW + (1 - shares) * two_N3HW


def mixed_cross_entropy(logits_NK: Tensor, one_N: Tensor, two_N: Tensor, shares_N: Tensor) -> Tensor:
    """Mean cross-entropy against labels of which the first one's share is given."""
    first, second = (torch.nn.functional.cross_entropy(logits_NK, v, reduction="none") for v in (one_N, two_N))
    return (shares_N * first + (1 - shares_N) * second).mean()


class Selective:
    """LISA's loss of a batch. The images themselves are drawn group by group, evenly, as the authors do.

    Setting: ``within_label``, the share of batches that are mixed within labels (p_sel); ``cutmix``: from one half on
    images are patched, else blended.
    """

    networks: Sequence[Classifier] = ()

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.mates = Mates(parts.images.groups, parts.n_labels, parts.n_groups // parts.n_labels)
        self.shares = patches if parts.setting["cutmix"] >= 0.5 else blends

    def __call__(self, index_N: NDArray[np.int64]) -> Tensor:
        """The loss of a batch and its mates."""
        parts, n = self.parts, len(index_N)
        within_label = bool(torch.rand(1, generator=parts.rng) < parts.setting["within_label"])
        mates_N = self.mates.draw(index_N, within_label, parts.rng)
        one, two = (parts.seen(parts.images, places) for places in (index_N, mates_N))
        # Drawn for the whole batch, so that an image is mixed alike however many processes share it.
        shares_NHW = self.shares(n, one.shape[2], one.shape[3], parts.rng)
        seen = mixed(one, two, shares_NHW[parts.ranks.part])
        logits = parts.model.head(parts.ranks.joined(parts.model.features(seen), n))
        own, mates = (torch.from_numpy(parts.images.labels[v]).to(logits.device) for v in (index_N, mates_N))
        return mixed_cross_entropy(logits, own, mates, shares_NHW.mean((1, 2)).to(logits.device))

    def state(self) -> dict[str, Tensor]:
        """Nothing: all its draws come from the training's random numbers."""
        return {}

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take."""

"""Styles exchanged between the images of a batch, inside the network: mean and deviation of each channel of its first maps.

So what is alike all over an image (its tint, light, contrast, blur, the texture of its ground) tells less of its label: in
half of the batches an image has another one's. What is where in an image stays. Permuted AdaIN (Nuriel et al. 2021,
arXiv 2010.05785, eq. 3), after the stem alone, oftener than its authors, who had large datasets, and without a gradient
through means and deviations, as in MixStyle (Zhou et al. 2021, arXiv 2104.02008).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fairsynth.models.classifier import Classifier
from fairsynth.models.data_parallel import Ranks

SHARE = 0.5
"""The share of batches whose styles are exchanged."""
_LEAST = 1e-6  # a channel without any deviation has no style to give away or to take


@contextmanager
def exchanged(network: Classifier, n: int, ranks: Ranks, rng: torch.Generator) -> Iterator[None]:
    """Within it the network sees a batch of ``n`` images, in ``SHARE`` of the cases with styles exchanged.

    The draws are made for the whole batch: an image gets the same style, however many processes share it.
    """
    if torch.rand(1, generator=rng) >= SHARE:
        yield
        return
    exchange = _Exchange(torch.randperm(n, generator=rng), ranks)
    handle = network.encoder.embedder.register_forward_hook(exchange)
    try:
        yield
    finally:
        handle.remove()


def restyled(maps_MCHW: Tensor, styles_M2C11: Tensor) -> Tensor:
    """The maps with other means and deviations of their channels, which come one after the other."""
    own, (mean, deviation) = _style(maps_MCHW), styles_M2C11.chunk(2, 1)
    own_mean, own_deviation = own.chunk(2, 1)
    return (maps_MCHW - own_mean) / own_deviation * deviation + mean


class _Exchange:
    """A hook after a network's stem: each image's maps with the style of the one whose turn it is."""

    def __init__(self, mates_N: Tensor, ranks: Ranks) -> None:
        self.mates_N, self.ranks = mates_N, ranks

    def __call__(self, stem: Any, images: Any, maps_MCHW: Tensor) -> Tensor:
        styles_N2C11 = self.ranks.joined(_style(maps_MCHW), len(self.mates_N))
        mates_M = self.mates_N[self.ranks.part].to(maps_MCHW.device)
        return restyled(maps_MCHW.float(), styles_N2C11[mates_M]).to(maps_MCHW.dtype)


def _style(maps_NCHW: Tensor) -> Tensor:
    """Mean and deviation of each channel, float32 (N, 2 C, 1, 1); no gradient flows through them."""
    maps = maps_NCHW.detach().float()
    mean = maps.mean((2, 3), keepdim=True)
    # torch's own variance warns where a process has no image of a batch.
    deviation = ((maps - mean).square().mean((2, 3), keepdim=True) + _LEAST).sqrt()
    return torch.cat([mean, deviation], 1)

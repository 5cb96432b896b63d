"""Images as arrays, the order in which a classifier learns from them, and what its network sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify import afr
from fairsynth.classify.augmentation import passes, strongly_augmented
from fairsynth.classify.methods import Phase
from fairsynth.config import ClassifyConfig

# Mean and deviation of ImageNet, which transformers' ResNets were trained with.
# ImageNet's, by channel, of pixels from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# Share of each group's draws that are of synthetic images, where groups with both kinds are drawn alike. As many of
# each group, because else how real an image looks would tell its group; few, because real ones teach more (tint, one of
# the worlds to settle by: docs/worlds.md).
SYNTHETIC_SHARE = 0.25
# torch.multinomial refuses more places.
_MOST_PLACES = 2**24


class Pixels(Protocol):
    """Images uint8 (N, S, S, 3), perhaps on disk: rows by their places."""

    def __getitem__(self, places: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Images:
    """Images uint8 (N, S, S, 3) with label and group indices int64 (N,); g = y * n_attributes + a."""

    pixels: Pixels
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    made: NDArray[np.bool_] | None = None
    """Which are synthetic, (N,), where real and synthetic ones are joined."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """What a classifier is trained and chosen on: never the test split."""

    train: Images
    validation: Images
    synthetic: Images
    n_labels: int
    n_groups: int


class _Joined:
    """The rows of several arrays, one after the other, without copying them."""

    def __init__(self, parts: Sequence[tuple[Pixels, NDArray[np.int64]]]) -> None:
        self.parts = [pixels for pixels, _ in parts]
        self.part = np.concatenate([np.full(len(places), i) for i, (_, places) in enumerate(parts)])
        self.place = np.concatenate([places for _, places in parts])

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        parts, inside = self.part[places], self.place[places]
        first = self.parts[0][inside[:0]]
        whole = np.empty((len(inside), *first.shape[1:]), np.uint8)
        for i, pixels in enumerate(self.parts):
            whole[parts == i] = pixels[inside[parts == i]]
        return whole


def taken(images: Images, places: NDArray[np.int64]) -> Images:
    """Some of the images."""
    return Images(_Joined([(images.pixels, places)]), images.labels[places], images.groups[places])


def joined(one: Images, two: Images, places: NDArray[np.int64]) -> Images:
    """All images of ``one`` and some of ``two``."""
    pixels = _Joined([(one.pixels, np.arange(len(one))), (two.pixels, places)])
    labels, groups = (
        np.concatenate([getattr(one, n), getattr(two, n)[places]]).astype(np.int64) for n in ("labels", "groups")
    )
    return Images(pixels, labels, groups)


def mixed(real: Images, synthetic: Images, places: NDArray[np.int64]) -> Images:
    """All real images and some of the synthetic ones, marked."""
    return replace(joined(real, synthetic, places), made=np.arange(len(real) + len(places)) >= len(real))


def filled(train: Images, synthetic: Images, rng: np.random.Generator) -> Images:
    """Real images, and of each group a random choice of the synthetic ones that it lacks to match the largest."""
    n_groups = int(max(train.groups.max(), synthetic.groups.max(initial=0))) + 1
    have = np.bincount(train.groups, minlength=n_groups)
    places = [
        rng.permutation(np.flatnonzero(synthetic.groups == g))[: have.max() - have[g]]
        for g in range(n_groups)
        if have[g] < have.max()
    ]
    return mixed(train, synthetic, np.sort(np.concatenate([*places, np.zeros(0, np.int64)])))


def completed(synthetic: Images, train: Images, rng: np.random.Generator) -> Images:
    """Synthetic images; a group that was not made is filled from its real ones, drawn with replacement.

    It gets as many as the smallest group that was made has: a set that lacks a group would teach the shortcut.
    """
    n_groups = int(max(train.groups.max(initial=0), synthetic.groups.max(initial=0))) + 1
    made, have = (np.bincount(images.groups, minlength=n_groups) for images in (synthetic, train))
    lacking = np.flatnonzero((have > 0) & (made == 0))
    if not len(synthetic) or not len(lacking):
        return synthetic
    size = int(made[made > 0].min())
    return joined(
        synthetic, train, np.concatenate([rng.choice(np.flatnonzero(train.groups == g), size) for g in lacking])
    )


def learnt(phase: Phase, data: Data, seed: int) -> Images:
    """The images of a phase, in the training with this seed."""
    train = data.train
    if phase.validation:
        train = joined(train, data.validation, np.arange(len(data.validation)))
    if phase.images in ("most", "rest"):
        most, rest = afr.split(len(train), np.random.default_rng(seed + 4))
        return taken(train, most if phase.images == "most" else rest)
    if phase.images == "train":
        return train
    synthetic = completed(data.synthetic, data.train, np.random.default_rng(seed + 5))
    if phase.images == "mixed":
        return mixed(train, synthetic, np.arange(len(synthetic)))
    if phase.images == "filled":
        return filled(train, synthetic, np.random.default_rng(seed + 3))
    return synthetic


def effort(phases: Iterable[Phase], data: Data) -> int:
    """About how many images go through the whole network in a training's phases."""
    real, synthetic = len(data.train), len(data.synthetic)
    sizes = {"synthetic": synthetic, "mixed": real + synthetic, "filled": real + synthetic}
    whole = 0
    for phase in phases:
        images = sizes.get(phase.images, real) + (len(data.validation) if phase.validation else 0)
        repeats = passes(images, phase.styles) if phase.strong and images else 1
        whole += images if phase.head_only else phase.epochs * images * repeats
    return whole


def orders(
    images: Images,
    phase: Phase,
    rng: torch.Generator,
    errors: NDArray[np.bool_] | None = None,
    times: int = 1,
) -> list[NDArray[np.int64]]:
    """The places of the images of an epoch, pass by pass: see ``order``, and ``augmentation.passes``."""
    repeats = passes(len(images), phase.styles) if phase.strong else 1
    return [order(images, phase.sampling, rng, errors, times) for _ in range(repeats)]


def order(
    images: Images,
    sampling: Literal["shuffled", "groups", "errors"],
    rng: torch.Generator,
    errors: NDArray[np.bool_] | None = None,
    times: int = 1,
) -> NDArray[np.int64]:
    """The places of an epoch's images.

    ``groups``: as many as there are images, with replacement, every group present equally often, and of each that
    has real and synthetic ones the share ``SYNTHETIC_SHARE`` synthetic. ``errors``: all shuffled, those that ``errors``
    marks ``times`` times (JTT).
    """
    if sampling == "groups":
        return drawn(torch.from_numpy(_alike(images)), len(images), rng).numpy()  # type: ignore[no-any-return]
    places = np.arange(len(images))
    if sampling == "errors" and errors is not None:
        places = np.repeat(places, np.where(errors, times, 1))
    return places[torch.randperm(len(places), generator=rng).numpy()]


def drawn(weights_N: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """``n`` places, int64, drawn with replacement in proportion to the weights (float64, of any number of places)."""
    if len(weights_N) <= _MOST_PLACES:
        return torch.multinomial(weights_N, n, True, generator=rng)
    ends_N = weights_N.cumsum(0)
    found = torch.searchsorted(ends_N, torch.rand(n, dtype=torch.float64, generator=rng) * ends_N[-1], right=True)
    return found.clamp(max=len(weights_N) - 1)


def _alike(images: Images) -> NDArray[np.float64]:
    """How often each image is drawn, (N,), so that groups come equally often, and synthetic images in each alike."""
    if images.made is None:
        return (1 / np.bincount(images.groups).clip(1))[images.groups]  # type: ignore[no-any-return]
    cells_N = 2 * images.groups + images.made
    counts = np.bincount(cells_N, minlength=2 * (int(images.groups.max()) + 1)).reshape(-1, 2)
    both_G1 = (counts > 0).all(axis=1, keepdims=True)
    shares = np.where(both_G1, [1 - SYNTHETIC_SHARE, SYNTHETIC_SHARE], 1.0)
    return (shares / counts.clip(1)).reshape(-1)[cells_N]  # type: ignore[no-any-return]


def cut(places: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Batches of an epoch. A last batch of one image is left out: batch norm cannot learn from it."""
    for start in range(0, len(places), size):
        batch = places[start : start + size]
        if len(batch) > 1 or len(places) == 1:
            yield batch


def to_tensor(pixels_NHW3: NDArray[np.uint8], device: str) -> Tensor:
    """The pixels as float32 (N, 3, H, W) from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2).to(device).float() / 255


def normalised(images_N3HW: Tensor) -> Tensor:
    """Images normalised by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(v, device=images_N3HW.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images_N3HW - mean) / std


def augmented(images_N3HW: Tensor, flip: bool, rng: torch.Generator, n: int, part: slice) -> Tensor:
    """Each image moved by up to a sixteenth of its side and, with ``flip``, mirrored at random.

    The images are the part ``part`` of a batch of ``n``; the draws are for the whole batch, so an image moves alike
    however many processes share it.
    """
    images = _shift(images_N3HW, rng, n, part)
    if flip:
        mirrored = (torch.rand(n, generator=rng) < 0.5)[part].to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def seen(
    images: Images,
    index: NDArray[np.int64],
    part: slice,
    config: ClassifyConfig,
    strong: bool,
    rng: torch.Generator,
    device: str,
) -> Tensor:
    """What a network sees of the part ``part`` of a batch: augmented as the config says, strongly or not, normalised."""
    pixels = to_tensor(images.pixels[index[part]], device)
    if config.augment:
        pixels = augmented(pixels, config.flip, rng, len(index), part)
    if strong:
        pixels = strongly_augmented(pixels, rng, len(index), part)
    return normalised(pixels)


def _shift(images_N3HW: Tensor, rng: torch.Generator, n: int, part: slice) -> Tensor:
    """Move each image by up to a sixteenth of its side, repeating the border."""
    own, _, height, width = images_N3HW.shape
    most = max(1, height // 16)
    offsets = torch.randint(-most, most + 1, (2, n, 1), generator=rng)[:, part].to(images_N3HW.device)
    rows = (torch.arange(height, device=images_N3HW.device) + offsets[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images_N3HW.device) + offsets[1]).clamp(0, width - 1)
    return images_N3HW[
        torch.arange(own, device=images_N3HW.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)

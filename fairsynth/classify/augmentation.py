"""Random changes of training images that leave a label alone, and that no shortcut survives for long.

Four of six changes for each image, each of a random strength, as RandAugment draws them (Cubuk et al. 2020, arXiv
1909.13719): place, colour, light, sharpness, a covered part, noise. Whatever an attribute is (a tint, a frame, a place,
a second object, blur), some of them blur the border between its values, so a network that relies on it is wrong more
often. All draws are made for the whole batch: an image is changed alike, however many processes share the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fairsynth.classify.passes import passes as passes

CHANGES_PER_IMAGE = 4
# The strongest changes: rotation in degrees, logarithm of the scale, shift as a share of half the side.
_ROTATION, _SCALE, _SHIFT = 20.0, 0.3, 0.4
_COVERED = (0.15, 0.45)  # side of the covered square, as a share of the image's
_NOISE = 0.12


class Draws:
    """``draws(low, high, *shape)``: numbers for each image of the part, float32 (n, *shape), drawn for the whole batch.

    ``places``: of the part's images only these.
    """

    def __init__(
        self, rng: torch.Generator, n: int, part: slice, device: torch.device, places: Tensor | None = None
    ) -> None:
        self.rng, self.n, self.part, self.device, self.places = rng, n, part, device, places

    def of(self, places: Tensor) -> Draws:
        """The same draws, for some of the images."""
        return Draws(self.rng, self.n, self.part, self.device, places)

    def __call__(self, low: float, high: float, *shape: int) -> Tensor:
        numbers = self.shared(low, high, self.n, *shape)[self.part]
        return numbers if self.places is None else numbers[self.places]

    def shared(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers for all images at once."""
        return (torch.rand(shape, generator=self.rng) * (high - low) + low).to(self.device)


def strongly_augmented(images_N3HW: Tensor, rng: torch.Generator, n: int, part: slice) -> Tensor:
    """Images from 0 to 1, each with four random changes. They are the part ``part`` of a batch of ``n``."""
    draws = Draws(rng, n, part, images_N3HW.device)
    # The places of the smallest of six numbers: different changes, every choice as likely. Sorted by the host, which
    # must know how many images each change has.
    chosen = Draws(rng, n, part, torch.device("cpu"))(0, 1, len(_CHANGES)).argsort(1)[:, :CHANGES_PER_IMAGE]
    images = images_N3HW.clone(memory_format=torch.contiguous_format)
    for number, change in enumerate(_CHANGES):
        places = (chosen == number).any(1).nonzero()[:, 0].to(images.device)
        if len(places):
            images[places] = change(images[places], draws.of(places))
        elif len(images):
            change(images[:1], draws.of(places.new_zeros(1)))  # so that its draws are made
    return images


def _place(images: Tensor, draws: Draws) -> Tensor:
    """Turned, scaled and shifted; what comes in from outside mirrors the border."""
    angle, scale = draws(-_ROTATION, _ROTATION) * math.pi / 180, draws(-_SCALE, _SCALE).exp()
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    shift = draws(-_SHIFT, _SHIFT, 2)
    rows = torch.stack([torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(rows, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _colour(images: Tensor, draws: Draws) -> Tensor:
    """Each channel partly replaced by a mixture of all three, and each brighter or darker."""
    mixture = draws(0, 1, 3, 3) ** 3  # mostly one channel of the three
    mixture = mixture / mixture.sum(2, keepdim=True).clamp(min=1e-6)
    share = draws(0, 1, 1, 1)
    matrix = (1 - share) * torch.eye(3, device=images.device) + share * mixture
    mixed = torch.einsum("nij,njhw->nihw", matrix, images)
    return (mixed * draws(0.7, 1.3, 3, 1, 1)).clamp(0, 1)


def _light(images: Tensor, draws: Draws) -> Tensor:
    """Contrast and brightness."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * draws(0.5, 1.5, 1, 1, 1) + mean + draws(-0.25, 0.25, 1, 1, 1)).clamp(0, 1)


def _sharpness(images: Tensor, draws: Draws) -> Tensor:
    """Blurred, or sharpened by what a blur would take away."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = (row[:, None] * row).expand(3, 1, 5, 5)
    # Images apart, colours together: the kernels for so few channels are faster then.
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate").contiguous(
        memory_format=torch.channels_last
    )
    blurred = torch.nn.functional.conv2d(padded, kernel, groups=3)
    return (images + draws(-1, 1, 1, 1, 1) * (blurred - images)).clamp(0, 1)


def _covered(images: Tensor, draws: Draws) -> Tensor:
    """A square somewhere in the image's mean colour (DeVries and Taylor 2017, arXiv 1708.04552)."""
    _, _, height, width = images.shape
    side = draws(*_COVERED)[:, None, None]
    top, left = draws(0, 1)[:, None, None], draws(0, 1)[:, None, None]
    rows = torch.arange(height, device=images.device)[None, :, None] / height
    columns = torch.arange(width, device=images.device)[None, None, :] / width
    inside = ((rows - top).abs() <= side / 2) & ((columns - left).abs() <= side / 2)
    return torch.where(inside[:, None], images.mean((2, 3), keepdim=True), images)


def _noise(images: Tensor, draws: Draws) -> Tensor:
    """A grain: one pattern for the batch, at another offset in each image."""
    _, channels, height, width = images.shape
    # Numbers for every pixel of every image would take longer to draw than a GPU takes to train on them.
    pattern = draws.shared(-1, 1, channels, height, width)
    down, right = (
        (draws(0, 1)[:, None] * side + torch.arange(side, device=images.device)).long() % side
        for side in (height, width)
    )
    places = (down[:, :, None] * width + right[:, None, :]).flatten()
    grain = pattern.flatten(1).index_select(1, places).view(channels, -1, height, width).transpose(0, 1)
    return (images + grain * draws(0, _NOISE * 3**0.5, 1, 1, 1)).clamp(0, 1)


_CHANGES = (_place, _colour, _light, _sharpness, _covered, _noise)

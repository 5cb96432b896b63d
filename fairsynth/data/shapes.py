"""Shapes of the images that a base model sees: squares, or a few of other ratios with about as many pixels.

An image goes to the shape whose ratio is nearest (aspect-ratio buckets: NovelAI's training of 2022; arXiv 2307.01952,
section 2.3). Here there is a shape for each ratio that cameras and screens have, upright and lying: with seven in all, an
adapter of few images still has some of each, and rows of several adapters meet in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Longer side by shorter one.
_RATIOS = (Fraction(4, 3), Fraction(3, 2), Fraction(16, 9))
MOST_SHAPES = 1 + 2 * len(_RATIOS)
# Steps of a side in the square's: 64 pixels of 1024, as Stable Diffusion XL was trained on. Networks with several levels halve
# the sides of latents, and GPUs like round numbers.
_STEPS = 16
# A shape has at most so many times the square's pixels, and at least the inverse.
_MOST_AREA = Fraction(4, 3)
_LONGEST = 2


class Shape(NamedTuple):
    """Height and width of an image in pixels."""

    height: int
    width: int


def shape_of(size: int | Shape) -> Shape:
    """A shape, of which the side alone is given if it is a square."""
    return size if isinstance(size, Shape) else Shape(size, size)


def buckets(size: int, factor: int) -> tuple[Shape, ...]:
    """The square of side ``size`` and the shapes beside it, with about as many pixels; the squarest first.

    The sides of all but the square are multiples of ``factor``, and of a sixteenth of ``size`` if that is more; the longer is
    at most twice the shorter. With a shape there is the same lying on its side. Where ``factor`` is coarse there are fewer.
    """
    step = factor * max(1, math.ceil(size / (_STEPS * factor)))
    tall = {shape for ratio in _RATIOS if (shape := _nearest_sides(size, step, ratio))}
    found = {Shape(size, size), *tall, *(Shape(shape.width, shape.height) for shape in tall)}
    return tuple(sorted(found, key=lambda shape: (Fraction(max(shape), min(shape)), -shape.height)))


def _nearest_sides(size: int, step: int, ratio: Fraction) -> Shape | None:
    """The upright shape that is nearest to a ratio and to the square's pixels; None if none is near."""
    sides = range(step, _LONGEST * size + 1, step)
    near = [
        Shape(longer, shorter)
        for shorter in sides
        for longer in sides
        if shorter < longer <= _LONGEST * shorter and _apart(Fraction(longer * shorter, size**2)) <= _MOST_AREA
    ]
    # Products of shares, and no logarithms: the table is the same on every machine.
    return min(
        near,
        key=lambda shape: (
            _apart(Fraction(shape.height, shape.width) / ratio) * _apart(Fraction(shape.height * shape.width, size**2))
        ),
        default=None,
    )


def _apart(share: Fraction) -> Fraction:
    """How many times one number is another, the larger by the smaller."""
    return max(share, 1 / share)


def nearest(height: int, width: int, shapes: Sequence[Shape]) -> Shape:
    """The shape whose ratio an image's is nearest to, on a logarithmic scale; of two as near, the first."""
    ratio = Fraction(height, width)
    return min(shapes, key=lambda shape: _apart(ratio * shape.width / shape.height))


def joined(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images (H, W, 3) of several shapes as one row of bytes."""
    return np.concatenate([np.zeros(0, np.uint8), *(image.ravel() for image in images)])


def parted(pixels: NDArray[np.uint8], shapes: Sequence[Shape]) -> list[NDArray[np.uint8]]:
    """The inverse of ``joined``: views of the row, (H, W, 3) each."""
    if not shapes:
        return []
    ends = np.cumsum([3 * shape.height * shape.width for shape in shapes], dtype=np.int64)
    return [part.reshape(*shape, 3) for part, shape in zip(np.split(pixels, ends[:-1]), shapes, strict=True)]

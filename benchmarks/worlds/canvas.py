"""What all worlds draw with: colours, grounds, and ink bent into its place. Pictures are float32 (32, 32, 3) in [0, 1]."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

SIZE = 32
Picture = NDArray[np.float32]
Mask = NDArray[np.float32]
Range = tuple[float, float]


def colour(rng: Generator, hue: Range = (0, 1), saturation: Range = (0, 1), value: Range = (0, 1)) -> Picture:
    """A random RGB colour, (3,)."""
    h, s, v = (rng.uniform(*limits) for limits in (hue, saturation, value))
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v), np.float32)


def dark_and_bright(rng: Generator) -> tuple[Picture, Picture]:
    """Two colours that nobody confuses."""
    return colour(rng, saturation=(0, 0.8), value=(0.02, 0.3)), colour(rng, saturation=(0, 0.35), value=(0.75, 1))


def either_way(rng: Generator) -> tuple[Picture, Picture]:
    """Ground and ink: bright on dark or dark on bright."""
    pair = dark_and_bright(rng)
    return pair if rng.random() < 0.5 else pair[::-1]


def grain(rng: Generator, width: float | tuple[float, float] = 0.7) -> Picture:
    """Smooth noise (32, 32, 1) of zero mean and unit variance; ``width`` in pixels, down and across."""
    spread = (width, width) if isinstance(width, float) else width
    noise = gaussian_filter(rng.standard_normal((SIZE, SIZE)), spread, mode="wrap")
    return ((noise - noise.mean()) / noise.std())[..., None].astype(np.float32)


def paper(rng: Generator, tone: Picture, rough: float = 0.05) -> Picture:
    """A sheet of one colour (3,) with grain, unevenly lit."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    light = 1 + rng.uniform(-0.2, 0.2) * y + rng.uniform(-0.2, 0.2) * x
    return tone * light[..., None] + rough * rng.uniform(0.3, 1) * grain(rng, rng.uniform(0.4, 1.2))


def over(mask: Mask, ink: Picture, ground: Picture) -> Picture:
    """Ink, of one colour (3,) or a picture, over a ground by a mask (32, 32)."""
    return mask[..., None] * ink + (1 - mask[..., None]) * ground


def bent(ink_SS: Mask, rng: Generator, height: Range, centre: tuple[float, float] = (0, 0), shift: float = 1.5) -> Mask:
    """Ink on a square field, slanted and bent, in the picture: its mask (32, 32).

    ``height``: of the whole field in pixels; ``centre``: down and across from the picture's middle, give or take ``shift``.
    """
    angle, shear = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(-0.2, 0.2)
    scale, width = len(ink_SS) / rng.uniform(*height), rng.uniform(0.8, 1.2)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    y, x = y - centre[0] - rng.uniform(-shift, shift), x - centre[1] - rng.uniform(-shift, shift)
    v = (np.cos(angle) * y - np.sin(angle) * x) * scale
    u = (np.cos(angle) * x + np.sin(angle) * y) * scale / width + shear * v
    bend = gaussian_filter(rng.standard_normal((2, SIZE, SIZE)), (0, 5, 5)) * rng.uniform(0, 15) * scale
    smooth = gaussian_filter(ink_SS, 0.35 * scale)
    middle = (len(ink_SS) - 1) / 2
    mask = map_coordinates(smooth, [v + bend[0] + middle, u + bend[1] + middle], order=1)
    return np.clip(mask, 0, 1).astype(np.float32)

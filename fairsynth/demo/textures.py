"""Procedurally drawn backgrounds: what the demo's base models know of the world.

Every texture is a function ``(rng, size) -> float32 array (size, size, 3) in [0, 1]``.
They are drawn from formulas alone: no photograph, and nothing of the demo dataset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = NDArray[np.float32]
Texture = Callable[[Generator, int], Image]


def _grid(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel centre coordinates (y, x) in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y.astype(np.float32), x.astype(np.float32)


def _noise(rng: Generator, size: int, slope: float, channels: int = 1) -> Image:
    """1/f^slope noise with zero mean and unit variance: the statistics of natural images."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    white = rng.standard_normal((channels, size, size))
    field = np.fft.irfft2(np.fft.rfft2(white) * frequency**-slope, s=(size, size))
    field = (field - field.mean((1, 2), keepdims=True)) / (field.std((1, 2), keepdims=True) + 1e-6)
    return field.transpose(1, 2, 0).astype(np.float32)


def _colour(
    rng: Generator,
    saturation: tuple[float, float] = (0, 1),
    hue: tuple[float, float] = (0, 1),
    value: tuple[float, float] = (0.15, 0.95),
) -> NDArray[np.float32]:
    """A random RGB colour with hue, saturation and value drawn from the given ranges."""
    h = rng.uniform(*hue) % 1.0 * 6
    s, v = rng.uniform(*saturation), rng.uniform(*value)
    k = (np.array([5.0, 3.0, 1.0]) + h) % 6
    return (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def _mix(mask: NDArray[np.float32], on: NDArray[np.float32], off: NDArray[np.float32]) -> Image:
    """Blend two colours (or images) by a mask (size, size) in [0, 1]."""
    return (mask[..., None] * on + (1 - mask[..., None]) * off).astype(np.float32)


def _soft(edge: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """A smooth step: 0 below zero, 1 above, over a band of the given width."""
    return np.clip(edge / width + 0.5, 0, 1).astype(np.float32)


def _turned(rng: Generator, size: int, spread: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates turned by a random angle within +-spread, centred at zero."""
    y, x = _grid(size)
    angle = rng.uniform(-spread, spread)
    cy, cx = y - 0.5, x - 0.5
    return (cy * np.cos(angle) - cx * np.sin(angle)).astype(np.float32), (
        cx * np.cos(angle) + cy * np.sin(angle)
    ).astype(np.float32)


def building(rng: Generator, size: int) -> Image:
    """A facade: rows of windows or bricks, ledges, sometimes a roof line with sky above."""
    v, u = _turned(rng, size, 0.2)
    wall = _colour(rng, (0, 0.65), (-0.05, 0.16), (0.25, 0.9))
    if rng.random() < 0.25:
        wall = _colour(rng, (0, 0.25), (0, 1), (0.25, 0.85))
    image = np.broadcast_to(wall, (size, size, 3)).astype(np.float32)
    rows, columns = rng.uniform(2, 9), rng.uniform(2, 9)
    shift = rng.uniform(0, 1, 2)
    offset = np.floor(v * rows + shift[0]) % 2 * 0.5 if rng.random() < 0.35 else 0.0
    py, px = (v * rows + shift[0]) % 1, (u * columns + shift[1] + offset) % 1
    half = rng.uniform(0.2, 0.46, 2)
    pane = _soft(half[0] - np.abs(py - 0.5), 0.18) * _soft(half[1] - np.abs(px - 0.5), 0.18)
    image = _mix(pane, _colour(rng, (0, 0.6), (0, 1), (0.05, 0.95)), image)
    if rng.random() < 0.5:
        ledge = _soft(0.08 - np.abs((v * rng.uniform(1, 3) + shift[1]) % 1 - 0.5), 0.08)
        image = _mix(ledge, _colour(rng, (0, 0.8), (-0.05, 0.2), (0.1, 1)), image)
    if rng.random() < 0.5:
        slope, height = rng.uniform(-1.2, 1.2), rng.uniform(-0.35, 0.1)
        outline = v - height - slope * (np.abs(u) if rng.random() < 0.6 else u)
        above = sky(rng, size) if rng.random() < 0.6 else forest(rng, size)
        image = _mix(_soft(outline, 0.04), image, above)
    return image + 0.04 * rng.uniform(0, 2) * _noise(rng, size, 0.5)


def flower(rng: Generator, size: int) -> Image:
    """Blossoms: petals round a centre, from one that fills the frame to several, over leaves."""
    y, x = _grid(size)
    leaves = _colour(rng, (0.3, 0.9), (0.2, 0.42), (0.08, 0.5))
    image = leaves + 0.08 * _noise(rng, size, rng.uniform(1, 2)) * np.array([0.6, 1, 0.5], np.float32)
    petal = _colour(rng, (0.2, 1), (0.74, 1.2), (0.45, 1))
    for _ in range(1 if rng.random() < 0.5 else rng.integers(2, 5)):
        cy, cx = rng.uniform(0.05, 0.95, 2)
        radius, count = rng.uniform(0.25, 0.85), rng.integers(4, 11)
        distance = np.hypot(y - cy, x - cx)
        angle = np.arctan2(y - cy, x - cx) + rng.uniform(0, 6)
        wave = np.abs(np.cos(angle * count / 2)) ** rng.uniform(0.3, 1.2)
        shade = 1 + 0.35 * (wave - 0.6) - rng.uniform(0, 0.4) * distance / radius
        image = _mix(_soft(radius * (0.35 + 0.65 * wave) - distance, 0.08), petal * shade[..., None], image)
        image = _mix(
            _soft(radius * rng.uniform(0.12, 0.3) - distance, 0.06),
            _colour(rng, (0.3, 1), (0, 0.2), (0.15, 0.95)),
            image,
        )
    return image + 0.03 * _noise(rng, size, 1.0)


def sky(rng: Generator, size: int) -> Image:
    """A vertical gradient of blue or grey with clouds."""
    y, _ = _grid(size)
    top, low = _colour(rng, (0, 0.8), (0.5, 0.68), (0.4, 1)), _colour(rng, (0, 0.3), (0.5, 0.7), (0.6, 1))
    image = _mix(y, low, top)
    clouds = _soft(_noise(rng, size, rng.uniform(1.4, 2.2))[..., 0] - rng.uniform(-0.5, 1.5), 1.0)
    return _mix(clouds * 0.8, _colour(rng, (0, 0.1), (0, 1), (0.75, 1)), image)


def water(rng: Generator, size: int) -> Image:
    """Ripples: warped horizontal waves in blue, teal or grey."""
    y, x = _grid(size)
    warp = _noise(rng, size, 2.0)[..., 0] * rng.uniform(0.3, 1.5)
    wave = np.sin(2 * np.pi * (y * rng.uniform(3, 9) + 0.3 * np.sin(x * rng.uniform(2, 9))) + warp)
    return _mix(
        ((wave + 1) / 2).astype(np.float32),
        _colour(rng, (0, 0.6), (0.45, 0.65), (0.4, 1)),
        _colour(rng, (0.2, 0.9), (0.45, 0.65), (0.1, 0.6)),
    )


def forest(rng: Generator, size: int) -> Image:
    """Dark green foliage with upright trunks."""
    _, x = _grid(size)
    image = _colour(rng, (0.3, 0.9), (0.2, 0.4), (0.1, 0.6)) * (1 + 0.35 * _noise(rng, size, rng.uniform(0.7, 1.4)))
    trunks = _soft(0.2 - np.abs((x * rng.uniform(2, 5) + rng.random()) % 1 - 0.5), 0.1)
    return _mix(trunks * rng.uniform(0.3, 1), _colour(rng, (0.2, 0.7), (0.03, 0.12), (0.08, 0.5)), image)


def sand(rng: Generator, size: int) -> Image:
    """Fine grain on a warm, slowly changing ground."""
    base = _colour(rng, (0.1, 0.6), (0.06, 0.14), (0.4, 1))
    return base * (1 + 0.1 * _noise(rng, size, 1.8) + rng.uniform(0.02, 0.12) * _noise(rng, size, 0.2))


def cloth(rng: Generator, size: int) -> Image:
    """Stripes or checks of two colours at any angle."""
    v, u = _turned(rng, size, np.pi)
    stripe = _soft(np.sin(2 * np.pi * u * rng.uniform(1.5, 8)).astype(np.float32), 0.5)
    if rng.random() < 0.5:
        stripe = np.abs(stripe - _soft(np.sin(2 * np.pi * v * rng.uniform(1.5, 8)).astype(np.float32), 0.5))
    return _mix(stripe, _colour(rng), _colour(rng)) + 0.03 * _noise(rng, size, 0.5)


def stone(rng: Generator, size: int) -> Image:
    """Cells of slightly different shade, as in a rubble wall."""
    y, x = _grid(size)
    points = rng.random((rng.integers(4, 24), 2)).astype(np.float32)
    distance = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1])
    order = np.argsort(distance, axis=-1)[..., 0]
    near = np.sort(distance, axis=-1)
    tint = _colour(rng, (0, 0.5)) * (1 + 0.3 * rng.standard_normal((len(points), 1)).astype(np.float32))
    joint = _soft(near[..., 1] - near[..., 0] - 0.02, 0.05)
    return _mix(joint, tint[order], _colour(rng, (0, 0.4), (0, 1), (0.05, 0.6))).astype(np.float32)


def marble(rng: Generator, size: int) -> Image:
    """Coloured 1/f noise of any slope and contrast: keeps every colour in the autoencoder's reach."""
    contrast = rng.uniform(0.05, 0.3)
    image = _colour(rng) + contrast * _noise(rng, size, rng.uniform(0.8, 2.0), 3) @ rng.uniform(-0.7, 1, (3, 3)).astype(
        np.float32
    )
    return image.astype(np.float32)


TEXTURES: dict[str, Texture] = {
    "building": building,
    "flower": flower,
    "sky": sky,
    "water": water,
    "forest": forest,
    "sand": sand,
    "cloth": cloth,
    "stone": stone,
    "marble": marble,
}


def draw_texture(name: str, rng: Generator, size: int = 32) -> Image:
    """Draw the named texture with random light.

    Returns a float32 array (size, size, 3) in [0, 1]. Raises KeyError for an unknown name.
    """
    image = TEXTURES[name](rng, size)
    y, x = _grid(size)
    light = 1 + rng.uniform(-0.35, 0.35) * (y - 0.5) + rng.uniform(-0.35, 0.35) * (x - 0.5)
    return np.clip(image * light[..., None] * rng.uniform(0.55, 1.1), 0, 1).astype(np.float32)

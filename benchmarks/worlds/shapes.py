"""Drawn shapes, and the world that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.worlds.canvas import SIZE, Mask, Picture, colour, dark_and_bright, over, paper
from benchmarks.worlds.sources import Pools, Source

Coordinates = NDArray[np.float64]

_FINE = 8
_Y, _X = (np.mgrid[: SIZE * _FINE, : SIZE * _FINE] + 0.5) / _FINE
_CORNERS = {"triangle": 3, "square": 4, "star": 10, "disc": 60, "ring": 60}
# Radii by which the shapes cover about the same area.
_REACH = {"triangle": 1.3, "square": 1.12}
# Where there is ink, from coordinates in periods.
_FILLINGS: dict[str, Callable[[Coordinates, Coordinates], NDArray[np.bool_]]] = {
    "stripes": lambda u, v: np.sin(2 * np.pi * u) > 0,
    "dots": lambda u, v: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.32,
    "checks": lambda u, v: np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v) > 0,
}


def pools(shown: Sequence[str], needs: Mapping[str, int], rng: Generator) -> Pools:
    """The shapes' names: there is no material to share."""
    return {split: [Source(shape, "", 0) for shape in shown] for split in needs}


def shape(name: str, centre: NDArray[np.float64], radius: float, rng: Generator) -> Mask:
    """Mask (32, 32) of a shape turned at random; ``centre`` in pixels down and across from the picture's middle."""
    corners, turned = np.arange(_CORNERS[name]), rng.uniform(0, 2 * np.pi)
    reach = radius * np.where(corners % 2, 0.42, 1.0) if name == "star" else radius * _REACH.get(name, 1.0)
    angle = turned + corners * 2 * np.pi / len(corners)
    points = np.stack([centre[1] + reach * np.cos(angle), centre[0] + reach * np.sin(angle)], 1)
    mask = _filled(points)
    return mask - _filled((points - centre[::-1]) * 0.5 + centre[::-1]) if name == "ring" else mask


def _filled(points_K2: NDArray[np.float64]) -> Mask:
    fine = Image.new("L", (SIZE * _FINE, SIZE * _FINE))
    ImageDraw.Draw(fine).polygon([tuple(point) for point in (points_K2 + SIZE / 2) * _FINE], fill=255)
    return np.asarray(fine.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32) / 255


def _filling(name: str, rng: Generator) -> Mask:
    """Stripes, dots or checks at a random angle, period and phase, (32, 32)."""
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(5.2, 7.0), rng.uniform(0, 1, 2)
    u = (np.cos(angle) * _X + np.sin(angle) * _Y) / period + phase[0]
    v = (np.cos(angle) * _Y - np.sin(angle) * _X) / period + phase[1]
    return _FILLINGS[name](u, v).reshape(SIZE, _FINE, SIZE, _FINE).mean((1, 3)).astype(np.float32)


def texture(source: Source, attribute: str, rng: Generator) -> Picture:
    """A shape filled with stripes, dots or checks on a plain ground."""
    colours = dark_and_bright(rng)
    first, second = colours if rng.random() < 0.5 else colours[::-1]
    radius = rng.uniform(9, 12)
    mask = shape(source.shows, rng.uniform(-1, 1, 2) * (14 - radius), radius, rng)
    ground = paper(rng, colour(rng, saturation=(0.2, 0.9), value=(0.4, 0.65)), rough=0.02)
    return over(mask, over(_filling(attribute, rng), first, second), ground)

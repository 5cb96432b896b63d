"""Crops of photographs, and the world that they make. Each strip of a photograph belongs to one split."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from benchmarks.worlds.canvas import SIZE, Picture
from benchmarks.worlds.sources import Source
from fairsynth.manifest import SPLITS

STRIPS = 6
PHOTOGRAPHS = ("china", "flower", "hopper")


@cache
def photograph(name: str) -> NDArray[np.uint8]:
    """Pixels of a photograph, (height, width, 3)."""
    if name == "hopper":
        import matplotlib

        return np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    from sklearn.datasets import load_sample_image

    return load_sample_image(f"{name}.jpg")


def strips(split: str) -> range:
    """The strips that a split may show; those of a split lie apart."""
    return range(SPLITS.index(split), STRIPS, len(SPLITS))


def crop(pixels: NDArray[np.uint8], strip: int, rng: Generator) -> Picture:
    """A random square from a strip, scaled to 32 x 32 and perhaps mirrored."""
    width = pixels.shape[1] // STRIPS
    side = int(rng.integers(width * 3 // 4, width + 1))
    x, y = strip * width + int(rng.integers(width - side + 1)), int(rng.integers(pixels.shape[0] - side + 1))
    square = Image.fromarray(pixels[y : y + side, x : x + side]).resize((SIZE, SIZE), Image.Resampling.BOX)
    picture = np.asarray(square, np.float32) / 255
    return picture[:, ::-1] if rng.random() < 0.5 else picture


def dim(source: Source, rng: Generator) -> Picture:
    """A darkened crop as a ground."""
    return crop(photograph(source.collection), source.place, rng) * rng.uniform(0.35, 0.6)

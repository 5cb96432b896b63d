"""Crops of photographs, and the world that they make. Each strip of a photograph belongs to one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from benchmarks.worlds.canvas import SIZE, Picture, colour, paper
from benchmarks.worlds.sources import Pools, Source
from fairsynth.manifest import SPLITS

STRIPS = 6
PHOTOGRAPHS = ("china", "flower", "hopper")
# Rows and columns of the photograph that are the thing.
_THINGS = {"china": (slice(125, 345), slice(93, 315)), "flower": (slice(112, 332), slice(196, 418))}
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


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


def pools(shown: Sequence[str], needs: Mapping[str, int], rng: Generator) -> Pools:
    """The strips of the photographs' things."""
    return {split: [Source(name, name, strip) for name in shown for strip in strips(split)] for split in needs}


def frame(source: Source, attribute: str, rng: Generator) -> Picture:
    """A small piece of a photograph's thing in any colours and light, with or without a border."""
    piece = crop(photograph(source.collection)[_THINGS[source.collection]], source.place, rng)
    picture = _any_light(piece, rng)
    if attribute == "framed":
        width = int(rng.integers(2, 5))
        inner = picture[width:-width, width:-width].copy()
        picture = paper(rng, colour(rng, value=(0.1, 1)), rough=0.01)
        picture[width:-width, width:-width] = inner
    return picture


def _any_light(picture: Picture, rng: Generator) -> Picture:
    """Other brightness, contrast and hue, so that colours do not tell what is shown."""
    grey = picture @ _LUMINANCE
    chroma = (picture - grey[..., None]) * rng.uniform(0, 0.6)
    chroma = chroma @ rng.permutation(np.eye(3, dtype=np.float32)) * rng.choice([-1, 1])
    grey = (grey - grey.mean()) / (grey.std() + 0.05) * rng.uniform(0.12, 0.22) + rng.uniform(0.35, 0.65)
    return grey[..., None] + chroma - chroma.mean((0, 1)) + 0.25 * (colour(rng) - 0.5)

"""Worlds of scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image

from benchmarks.worlds.canvas import Mask, Picture, bent, colour, either_way, grain, over, paper
from benchmarks.worlds.sources import Pools, Source, dealt

_FIELD = 64
_INKS = {"amber": (0.065, 0.13), "teal": (0.44, 0.53)}


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def pools(shown: Sequence[str], needs: Mapping[str, int], rng: Generator) -> Pools:
    """The handwritten digits that are shown, dealt to the splits."""
    digits = _digits()[1].astype(str)
    return dealt(
        [Source(str(digits[i]), "digit", int(i)) for i in np.flatnonzero(np.isin(digits, list(shown)))], needs, rng
    )


@cache
def ink(place: int) -> Mask:
    """One writer's digit on a field of 64 x 64."""
    small = Image.fromarray((_digits()[0][place].reshape(8, 8) * 255 / 16).astype(np.uint8))
    large = np.asarray(small.resize((_FIELD, _FIELD), Image.Resampling.BICUBIC), np.float32) / 255
    return np.clip(1.8 * large - 0.4, 0, 1)


def tint(source: Source, attribute: str, rng: Generator) -> Picture:
    """Amber or teal ink on dim grey paper."""
    mask = bent(ink(source.place), rng, (20, 27))
    tone = colour(rng, hue=_INKS[attribute], saturation=(0.65, 1), value=(0.7, 1))
    return over(mask, tone, paper(rng, colour(rng, saturation=(0, 0), value=(0.05, 0.4))))


def position(source: Source, attribute: str, rng: Generator) -> Picture:
    """A small digit in the left or the right half of a rough ground."""
    across = -7.5 if attribute == "left" else 7.5
    mask = bent(ink(source.place), rng, (14, 16), (rng.uniform(-6.5, 6.5), across), shift=1.0)
    ground, tone = either_way(rng)
    weave = grain(rng, (rng.uniform(0.4, 2.5), rng.uniform(0.4, 2.5))) * rng.uniform(0.04, 0.1)
    return over(mask, tone, paper(rng, ground) + weave * colour(rng, value=(0.5, 1)))

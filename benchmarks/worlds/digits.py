"""Worlds of scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.worlds.canvas import Mask, Picture, bent, colour, dark_and_bright, either_way, grain, over, paper
from benchmarks.worlds.skeleton import skeleton
from benchmarks.worlds.sources import Pools, Source, dealt

_FIELD = 64
_INKS = {"amber": (0.065, 0.13), "teal": (0.44, 0.53)}
# Hue and saturation.
_GROUNDS = {
    "rose": ((0.9, 0.99), (0.25, 0.65)),
    "moss": ((0.22, 0.36), (0.3, 0.75)),
    "sky": ((0.53, 0.63), (0.3, 0.75)),
    "sand": ((0.08, 0.14), (0.25, 0.6)),
}


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


def _large(place: int) -> Mask:
    """One writer's digit on a field of 64 x 64."""
    small = Image.fromarray((_digits()[0][place].reshape(8, 8) * 255 / 16).astype(np.uint8))
    return np.asarray(small.resize((_FIELD, _FIELD), Image.Resampling.BICUBIC), np.float32) / 255


def ink(place: int) -> Mask:
    """A digit's ink on a field of 64 x 64, with clear edges."""
    return np.clip(1.8 * _large(place) - 0.4, 0, 1)


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


def _pen_drawn(place: int, radius: float) -> Mask:
    """The digit drawn anew along its skeleton."""
    large = _large(place)
    # Darker than its surroundings: small loops stay open, which any one threshold would fill.
    strokes = large > np.maximum(gaussian_filter(large, 6) + 0.03, 0.35)
    return (distance_transform_edt(~skeleton(strokes)) <= radius).astype(np.float32)


def thickness(source: Source, attribute: str, rng: Generator) -> Picture:
    """A digit drawn anew along its skeleton, with a thin or a thick pen."""
    pen = rng.uniform(1.6, 2.2) if attribute == "thin" else rng.uniform(5.0, 6.5)
    mask = bent(_pen_drawn(source.place, pen), rng, (21, 27))
    ground, tone = either_way(rng)
    return over(mask, tone, paper(rng, ground))


def many(source: Source, attribute: str, rng: Generator) -> Picture:
    """A black or white digit on a ground of one of four families of colours."""
    hue, saturation = _GROUNDS[attribute]
    ground = paper(rng, colour(rng, hue, saturation, value=(0.45, 0.8)), rough=0.08)
    tone = colour(rng, saturation=(0, 0.1), value=(0.93, 1) if rng.random() < 0.5 else (0, 0.12))
    return over(bent(ink(source.place), rng, (20, 27)), tone, ground)


def noisy(source: Source, attribute: str, rng: Generator) -> Picture:
    """Bright ink on a dark ground, or dark ink on a light one."""
    dark, bright = dark_and_bright(rng)
    ground, tone = (dark, bright) if attribute == "dark" else (bright, dark)
    return over(bent(ink(source.place), rng, (20, 27)), tone, paper(rng, ground))

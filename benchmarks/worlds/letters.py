"""Worlds of letters in matplotlib's fonts, on crops of photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter

from benchmarks.worlds.canvas import SIZE, Mask, Picture, bent, colour, over
from benchmarks.worlds.photos import PHOTOGRAPHS, dim, strips
from benchmarks.worlds.shapes import shape
from benchmarks.worlds.sources import Pools, Source

_FIELD, _HEIGHT = 64, 46
_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("cmb10", "cmr10", "cmss10", "cmtt10", "cmti10"),
)


def pools(shown: Sequence[str], needs: Mapping[str, int], rng: Generator) -> Pools:
    """Every letter on every strip of a photograph that the split may show, in random order."""
    found = {split: [Source(s, p, n) for s in shown for p in PHOTOGRAPHS for n in strips(split)] for split in needs}
    return {split: [sources[i] for i in rng.permutation(len(sources))] for split, sources in found.items()}


@cache
def _glyph(font: str, letter: str) -> Image.Image:
    """A letter, white on black, 46 pixels high on a field of 64 x 64."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    page = Image.new("L", (160, 160))
    ImageDraw.Draw(page).text((80, 80), letter, font=ImageFont.truetype(str(file), 64), fill=255, anchor="mm")
    cut = page.crop(page.getbbox())
    width = min(_FIELD, round(cut.width * _HEIGHT / cut.height))
    field = Image.new("L", (_FIELD, _FIELD))
    field.paste(cut.resize((width, _HEIGHT)), ((_FIELD - width) // 2, (_FIELD - _HEIGHT) // 2))
    return field


def ink(letter: str, rng: Generator) -> Mask:
    """A letter in a random font and weight on a field of 64 x 64."""
    glyph = _glyph(str(rng.choice(_FONTS)), letter)
    return np.asarray(glyph.filter(ImageFilter.MaxFilter(2 * int(rng.integers(0, 3)) + 1)), np.float32) / 255


def corner(source: Source, attribute: str, rng: Generator) -> Picture:
    """A pale letter, and a bright star or ring in some corner."""
    side = rng.choice([-1.0, 1.0], 2)
    mask = bent(ink(source.shows, rng), rng, (24, 29), tuple(-2.5 * side), shift=1.0)
    picture = over(mask, colour(rng, saturation=(0, 0.2), value=(0.85, 1)), dim(source, rng))
    mark = shape(attribute, 10.0 * side + rng.uniform(-0.8, 0.8, 2), rng.uniform(4.7, 5.7), rng)
    return over(mark, colour(rng, saturation=(0.5, 1), value=(0.85, 1)), picture)


def blur(source: Source, attribute: str, rng: Generator) -> Picture:
    """A pale letter on a photograph, the whole in or out of focus; a camera's noise comes after that."""
    mask = bent(ink(source.shows, rng), rng, (30, 36))
    picture = over(mask, colour(rng, saturation=(0, 0.3), value=(0.8, 1)), dim(source, rng))
    if attribute == "blurred":
        picture = gaussian_filter(picture, (sigma := rng.uniform(1.3, 2.0), sigma, 0))
    return picture + rng.uniform(0.005, 0.02) * rng.standard_normal((SIZE, SIZE, 1)).astype(np.float32)

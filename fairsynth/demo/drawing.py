"""Drawn digits with captions: the training data of the demo's base models.

A sample is a font glyph on a drawn texture, bent and blurred so that no two strokes are alike, with the facts that
a caption may mention. ``load_digits`` (the demo dataset's
handwriting) is never touched here: the base knows the concepts, not the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates

from fairsynth.demo.textures import TEXTURES, draw_texture

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEXTURE_WORDS = tuple(TEXTURES)
SIZE = 32
_GLYPH = 64
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmti10",
)
_HELD_OUT_FONTS = ("DejaVuSansMono-Oblique", "DejaVuSerif-BoldItalic", "STIXGeneralBolIta")


def label_word(digit: int) -> str:
    """The demo's label of a digit: ``low`` for 0-4, ``high`` for 5-9."""
    return "low" if digit < 5 else "high"


@dataclass(frozen=True)
class Drawn:
    """One drawn sample: pixels uint8 (32, 32, 3), digit (None: background only), texture word."""

    pixels: NDArray[np.uint8]
    digit: int | None
    texture: str

    def caption(self, rng: Generator) -> str:
        """A random caption that is true of the picture."""
        if self.digit is None:
            return f"a photo of a {self.texture}"
        digit, label = DIGIT_WORDS[self.digit], label_word(self.digit)
        return str(
            rng.choice(
                [
                    f"a photo of the digit {digit} on a {self.texture}",
                    f"a photo of a {label} number on a {self.texture}",
                    f"a photo of a {label} number on a {self.texture}",
                    f"a photo of the digit {digit} a {label} number on a {self.texture}",
                    f"a photo of the digit {digit}",
                    f"a photo of a {label} number",
                ]
            )
        )


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), 56)


@cache
def _glyph(name: str, digit: int) -> Image.Image:
    """The digit's glyph, white on black, cut to its ink and scaled to 48 of 64 pixels in height."""
    image = Image.new("L", (96, 96))
    ImageDraw.Draw(image).text((48, 48), str(digit), font=_font(name), fill=255, anchor="mm")
    ink = image.crop(image.getbbox())
    width = max(6, round(ink.width * 48 / ink.height))
    canvas = Image.new("L", (_GLYPH, _GLYPH))
    canvas.paste(ink.resize((width, 48), Image.Resampling.BICUBIC), ((_GLYPH - width) // 2, 8))
    return canvas


def draw_mask(digit: int, rng: Generator, held_out: bool = False) -> NDArray[np.float32]:
    """One digit's ink, float32 (32, 32) in [0, 1]: a random font, stroke, slant, bend and blur.

    ``held_out`` draws from fonts that training never uses.
    """
    glyph = _glyph(str(rng.choice(_HELD_OUT_FONTS if held_out else _FONTS)), digit)
    stroke = int(rng.integers(0, 5))
    if stroke > 0:
        glyph = glyph.filter(ImageFilter.MaxFilter(2 * stroke + 1))
    ink = np.asarray(glyph, np.float32) / 255
    angle, shear = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(-0.25, 0.25)
    height, width = rng.uniform(17, 27), rng.uniform(0.75, 1.25)
    scale = 48 / height
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - (SIZE - 1) / 2
    y, x = y - rng.uniform(-3, 3), x - rng.uniform(-3, 3)
    v = (np.cos(angle) * y - np.sin(angle) * x) * scale
    u = (np.cos(angle) * x + np.sin(angle) * y) * scale / width + shear * v
    bend = gaussian_filter(rng.standard_normal((2, SIZE, SIZE)), (0, 5, 5)) * rng.uniform(0, 55)
    blur = gaussian_filter(ink, 0.35 * scale)
    centre = (_GLYPH - 1) / 2
    mask = map_coordinates(blur, [v + bend[0] + centre, u + bend[1] + centre], order=1, mode="constant")
    return np.clip(gaussian_filter(mask, rng.uniform(0.0, 0.9)) * rng.uniform(1, 1.3), 0, 1).astype(np.float32)


def draw(rng: Generator, digit: int | None, texture: str, held_out: bool = False) -> Drawn:
    """Draw one sample: bright ink (white three times of four) on a darker texture."""
    ground = draw_texture(texture, rng, SIZE)
    if digit is not None:
        ground = ground * rng.uniform(0.45, 0.8)
        ink = np.full(3, rng.uniform(0.88, 1.0), np.float32)
        if rng.random() < 0.25:
            ink = np.clip(rng.uniform(0.75, 1.0) - rng.uniform(0, 0.35, 3), 0, 1).astype(np.float32)
        mask = draw_mask(digit, rng, held_out)[..., None] * rng.uniform(0.9, 1.0)
        ground = mask * ink + (1 - mask) * ground
    return Drawn((ground * 255 + 0.5).astype(np.uint8), digit, texture)


def draw_set(count: int, seed: int, blank: float = 0.1, held_out: bool = False) -> list[Drawn]:
    """``count`` samples; each depends on (seed, index) alone. A share ``blank`` shows no digit.

    Half of all backgrounds are the two that the demo's attributes name.
    """
    samples = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        texture = str(rng.choice(TEXTURE_WORDS[:2])) if rng.random() < 0.5 else str(rng.choice(TEXTURE_WORDS))
        digit = None if rng.random() < blank else int(rng.integers(10))
        samples.append(draw(rng, digit, texture, held_out))
    return samples

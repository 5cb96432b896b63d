"""A picture of one colour in every mode, and what becomes of it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from tests.support.datasets import encoded

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
ORANGE = (200, 100, 50)
PLAIN = Image.new("RGB", (5, 3), ORANGE)
PALETTE = Image.new("P", (5, 3), 1)
PALETTE.putpalette([0, 0, 0, *ORANGE])
SMALL = ImageRules(min_side=1, max_aspect=1000, constant="keep")


def one_colour(image: Image.Image, format: str = "PNG", **options: object) -> tuple[int, ...]:
    """The single colour of a decoded image of one colour."""
    pixels = decode(encoded(image, format, **options), rules=SMALL)
    assert pixels.shape == (image.height, image.width, 3) and pixels.dtype == np.uint8
    (colour,) = {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}
    return colour


def first_row(content: bytes, rules: ImageRules = SMALL) -> list[list[int]]:
    """The colours of the first row."""
    return decode(content, rules=rules)[0].tolist()

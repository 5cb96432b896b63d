"""Pictures are turned upright, of several frames the first counts, and a size gives the middle square."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.data.decode import decode, inspect_image
from tests.support.data.colours import NOISE, ORANGE, SMALL, one_colour
from tests.support.datasets import encoded

# Fault case 7: orientation

# How each EXIF orientation is stored, from the upright pixels (EXIF 2.32, tag 0x0112).
STORED = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1], 5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1), 8: lambda p: np.rot90(p, -1),
}  # fmt: skip


def smooth() -> NDArray[np.uint8]:
    """A picture that JPEG keeps, and that differs from all its turns."""
    y, x = np.mgrid[0:96, 0:128]
    return np.stack([y * 2, x * 2 - 1 + (x == 0), (x + y) % 200], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("format", "close"), [("PNG", 0), ("TIFF", 0), ("WEBP", 0), ("JPEG", 4)])
def test_all_orientations_show_the_same_picture(format: str, close: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](smooth())))
    content = encoded(stored, format, exif=exif, lossless=True, quality=100, subsampling=0)
    image, facts = inspect_image(content)
    assert (facts.width, facts.height) == image.size == (128, 96)
    assert np.abs(np.asarray(image).astype(int) - smooth()).mean() <= close


def test_deep_and_transparent_images_are_turned_too() -> None:
    deep = (np.arange(96 * 128).reshape(96, 128) * 5).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(encoded(Image.fromarray(deep)))
    assert np.array_equal(decode(encoded(Image.fromarray(np.rot90(deep).copy()), exif=exif)), upright)
    assert np.array_equal(decode(encoded(Image.fromarray(np.rot90(deep).copy()), "TIFF", exif=exif)), upright)
    rgba = np.dstack([NOISE, NOISE[..., :1]])
    upright = decode(encoded(Image.fromarray(rgba)))
    assert np.array_equal(decode(encoded(Image.fromarray(np.rot90(rgba).copy()), exif=exif)), upright)


# Fault case 10: the first frame; and the square


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert one_colour(frames[0], format, save_all=True, append_images=frames[1:]) == pytest.approx((255, 0, 0), abs=2)


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (32, 32), (1, 200), (300, 2), (1, 1)])
def test_a_size_gives_the_middle_square(shape: tuple[int, int]) -> None:
    pixels = decode(encoded(Image.new("RGB", shape, ORANGE)), 32, SMALL)
    assert np.array_equal(pixels, np.full((32, 32, 3), ORANGE))
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert decode(encoded(Image.fromarray(wide)), 20).min() == 255
    assert decode(encoded(Image.fromarray(wide.swapaxes(0, 1).copy())), 20).min() == 255

"""Files that are good: each becomes upright RGB of the right colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fairsynth.data.decode import decode
from tests.worlds import encoded

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
ORANGE = (200, 100, 50)
PALETTE = Image.new("P", (5, 3), 1)
PALETTE.putpalette([0, 0, 0, *ORANGE])


def one_colour(image: Image.Image, kind: str = "PNG", **options: object) -> tuple[int, ...]:
    """The single colour of a decoded image of one colour."""
    pixels = decode(encoded(image, kind, **options))
    assert pixels.shape == (image.height, image.width, 3) and pixels.dtype == np.uint8
    (colour,) = {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}
    return colour


def test_modes_become_rgb() -> None:
    plain = Image.new("RGB", (5, 3), ORANGE)
    assert one_colour(plain) == ORANGE
    assert one_colour(PALETTE) == ORANGE
    assert one_colour(plain.convert("CMYK"), "TIFF") == ORANGE
    assert one_colour(plain.convert("CMYK"), "JPEG", quality=100) == pytest.approx(ORANGE, abs=2)
    assert one_colour(Image.new("L", (5, 3), 77)) == (77, 77, 77)
    assert [one_colour(Image.new("1", (5, 3), value)) for value in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


def test_alpha_lies_over_white() -> None:
    assert one_colour(Image.new("RGBA", (5, 3), (255, 0, 0, 128))) == pytest.approx((255, 127, 127), abs=1)
    assert one_colour(Image.new("RGBA", (5, 3), (*ORANGE, 255))) == ORANGE
    assert one_colour(Image.new("LA", (5, 3), (0, 0))) == (255, 255, 255)
    assert one_colour(Image.new("LA", (5, 3), (60, 255))) == (60, 60, 60)
    assert one_colour(PALETTE, transparency=1) == (255, 255, 255)
    assert one_colour(PALETTE, transparency=0) == ORANGE
    assert one_colour(Image.new("RGB", (5, 3), ORANGE), transparency=ORANGE) == (255, 255, 255)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", "<i4")])
def test_sixteen_bits_are_scaled_not_clipped(kind: str, dtype: str) -> None:
    deep = np.array([[0, 257, 5140, 32768, 65535]], np.uint16).astype(dtype)
    assert decode(encoded(Image.fromarray(deep), kind))[0, :, 0].tolist() == [0, 1, 20, 128, 255]


def test_floats_are_scaled() -> None:
    values = np.array([[0, 0.2, 1]], np.float32)
    assert decode(encoded(Image.fromarray(values), "TIFF"))[0, :, 1].tolist() == [0, 51, 255]


# How each EXIF orientation is stored, from the upright pixels (EXIF 2.32, tag 0x0112).
STORED = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1], 5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1), 8: lambda p: np.rot90(p, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED)
def test_all_orientations_show_the_same_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](NOISE)))
    assert np.array_equal(decode(encoded(stored, exif=exif)), NOISE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert one_colour(frames[0], kind, save_all=True, append_images=frames[1:]) == pytest.approx((255, 0, 0), abs=2)


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (32, 32), (1, 200), (300, 2), (1, 1)])
def test_a_size_gives_the_middle_square(shape: tuple[int, int]) -> None:
    assert np.array_equal(decode(encoded(Image.new("RGB", shape, ORANGE)), 32), np.full((32, 32, 3), ORANGE))
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert decode(encoded(Image.fromarray(wide)), 20).min() == 255
    assert decode(encoded(Image.fromarray(wide.swapaxes(0, 1).copy())), 20).min() == 255

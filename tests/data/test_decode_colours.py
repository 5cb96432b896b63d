"""Pixels of every mode, alpha and depth become the RGB that they show."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data.colour import to_srgb
from fairsynth.data.decode import decode, inspect_image
from tests.support.data.colours import ORANGE, PALETTE, PLAIN, SMALL, first_row, one_colour
from tests.support.datasets import encoded

GREEN_BEHIND = ImageRules(min_side=1, max_aspect=1000, constant="keep", background="#00ff00")


def greys(content: bytes) -> list[int]:
    """The first row of a grey image."""
    row = first_row(content)
    assert all(len(set(colour)) == 1 for colour in row)
    return [colour[0] for colour in row]


def png(width: int, depth: int, colours: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of one row; ``colours`` 0 is grey, 2 colour, 3 palette, 4 grey with alpha, 6 colour with alpha."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colours, 0, 0, 0)
    parts = {"IHDR": header, **chunks, "IDAT": zlib.compress(b"\0" + row), "IEND": b""}
    body = [(name.encode(), data) for name, data in parts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in body
    )


def tiff(width: int, bits: int, row: bytes, order: str = "<", **tags: int) -> bytes:
    """A TIFF of one row; ``tags`` (t262=0) add to the usual ones or change them."""
    usual = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(row)}
    entries = sorted((usual | {int(name[1:]): value for name, value in tags.items()}).items())
    table = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(row))
    return head + row + struct.pack(order + "H", len(entries)) + table + bytes(4)


# Fault case 5: modes


def test_modes_become_rgb() -> None:
    assert one_colour(PLAIN) == ORANGE
    assert one_colour(PALETTE) == ORANGE
    assert one_colour(PALETTE, "GIF") == one_colour(PALETTE, "TIFF") == one_colour(PALETTE, "BMP") == ORANGE
    assert one_colour(PLAIN.convert("CMYK"), "TIFF") == ORANGE
    assert one_colour(Image.new("L", (5, 3), 77)) == (77, 77, 77)
    assert one_colour(Image.new("L", (5, 3), 77), "JPEG") == pytest.approx((77, 77, 77), abs=1)
    assert [one_colour(Image.new("1", (5, 3), value)) for value in (0, 1)] == [(0, 0, 0), (255, 255, 255)]
    assert one_colour(PLAIN.convert("YCbCr"), "JPEG", quality=100) == pytest.approx(ORANGE, abs=2)


@pytest.mark.parametrize(
    ("mode", "pixel", "colour"),
    [
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("HSV", (85, 255, 255), (0, 255, 0)),
        ("LAB", (255, 128, 128), (255, 255, 255)),  # Pillow's LAB has a and b around 128
        ("LAB", (153, 121, 96), (100, 150, 200)),  # L* 60.07, a* -6.67, b* -31.52 under D50
        ("YCbCr", (76, 85, 255), (254, 0, 0)),  # ITU-R BT.601: red is 76, 85, 255
        ("RGBX", (*ORANGE, 7), ORANGE),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("CMYK", (0, 51, 102, 0), (255, 204, 153)),
        ("RGBa", (100, 50, 25, 128), (227, 177, 152)),  # 200, 100, 50 at half opacity over white
        ("La", (50, 128), (177, 177, 177)),  # 100 at half opacity
        ("PA", (1, 255), ORANGE),
        ("PA", (1, 0), (255, 255, 255)),
    ],
)
def test_modes_that_few_files_have(mode: str, pixel: tuple[int, ...], colour: tuple[int, ...]) -> None:
    image = Image.new(mode, (2, 2), pixel)
    if mode == "PA":
        image.putpalette([0, 0, 0, *ORANGE])
    rgb = to_srgb(image, "#ffffff")
    assert rgb.mode == "RGB" and rgb.getpixel((1, 1)) == pytest.approx(colour, abs=2)


def test_cmyk_jpegs_are_inverted_as_adobe_does() -> None:
    assert one_colour(PLAIN.convert("CMYK"), "JPEG", quality=100) == pytest.approx(ORANGE, abs=2)
    inks = Image.new("CMYK", (16, 16), (180, 40, 90, 20))
    as_cmyk = encoded(inks, "JPEG", quality=100)
    marker = as_cmyk.index(b"Adobe") + 11
    assert as_cmyk[marker] == 0
    # The same bytes called YCCK: what was C, M, Y inverted (75, 215, 165) is Y, Cb, Cr, of which the inks are
    # R = 75 + 1.402 (165 - 128) = 127, G = 75 - 0.344 (215 - 128) - 0.714 (165 - 128) = 19, B = 75 + 1.772 (215 - 128) = 229.
    as_ycck = as_cmyk[:marker] + b"\2" + as_cmyk[marker + 1 :]
    assert inspect_image(as_ycck, SMALL)[1].mode == "CMYK"
    black = (255 - 20) / 255
    for content, ink in ((as_cmyk, (180, 40, 90)), (as_ycck, (127, 19, 229))):
        expected = [(255 - value) * black for value in ink]
        assert decode(content, rules=SMALL)[8, 8].tolist() == pytest.approx(expected, abs=3)


def test_alpha_lies_over_the_background() -> None:
    assert one_colour(Image.new("RGBA", (5, 3), (255, 0, 0, 128))) == pytest.approx((255, 127, 127), abs=1)
    assert one_colour(Image.new("RGBA", (5, 3), (*ORANGE, 255))) == ORANGE
    assert one_colour(Image.new("LA", (5, 3), (0, 0))) == (255, 255, 255)
    assert one_colour(Image.new("LA", (5, 3), (60, 255))) == (60, 60, 60)
    half = encoded(Image.new("RGBA", (2, 1), (255, 0, 0, 51)))  # a fifth red
    assert first_row(half, GREEN_BEHIND) == [[51, 204, 0]] * 2
    assert first_row(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 51)), "WEBP", lossless=True), GREEN_BEHIND) == [
        [51, 204, 0]
    ]
    assert first_row(encoded(Image.new("LA", (1, 1), (0, 0))), GREEN_BEHIND) == [[0, 255, 0]]
    assert first_row(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "TIFF"), GREEN_BEHIND) == [[0, 255, 0]]


def test_one_colour_or_entry_may_be_transparent() -> None:
    assert one_colour(PALETTE, transparency=1) == (255, 255, 255)
    assert one_colour(PALETTE, transparency=0) == ORANGE
    assert one_colour(PALETTE, transparency=b"\xff\0") == (255, 255, 255)
    assert one_colour(PALETTE, transparency=b"\0\x80") == pytest.approx((227, 177, 152), abs=1)
    assert one_colour(PALETTE, "GIF", transparency=1) == (255, 255, 255)
    assert one_colour(PLAIN, transparency=ORANGE) == (255, 255, 255)
    assert one_colour(PLAIN, transparency=(200, 100, 51)) == ORANGE
    assert one_colour(Image.new("L", (5, 3), 9), transparency=9) == (255, 255, 255)
    assert [one_colour(Image.new("1", (5, 3), value), transparency=1) for value in (0, 1)] == [
        (0, 0, 0),
        (255, 255, 255),
    ]


@pytest.mark.parametrize(
    ("depth", "colours", "row", "key", "expected"),
    [
        (1, 0, bytes([0b01010000]), (1,), [[0] * 3, [0, 255, 0], [0] * 3, [0, 255, 0]]),
        (1, 0, bytes([0b01010000]), (0,), [[0, 255, 0], [255] * 3, [0, 255, 0], [255] * 3]),
        (2, 0, bytes([0b00011011]), (1,), [[0] * 3, [0, 255, 0], [170] * 3, [255] * 3]),
        (4, 0, bytes([0x0F, 0x5A]), (5,), [[0] * 3, [255] * 3, [0, 255, 0], [170] * 3]),
        (8, 0, bytes([0, 1, 2, 3]), (2,), [[0] * 3, [1] * 3, [0, 255, 0], [3] * 3]),
        (16, 0, struct.pack(">4H", 0, 257, 514, 65535), (514,), [[0] * 3, [1] * 3, [0, 255, 0], [255] * 3]),
        (16, 2, struct.pack(">12H", *[0] * 3, *[2570] * 3, *[5140] * 3, *[65535] * 3), (5140,) * 3, [[0] * 3, [10] * 3, [0, 255, 0], [255] * 3]),
    ],
)  # fmt: skip
def test_the_transparent_colour_of_a_png_has_the_depth_of_the_file(
    depth: int, colours: int, row: bytes, key: tuple[int, ...], expected: list[list[int]]
) -> None:
    assert first_row(png(4, depth, colours, row, tRNS=struct.pack(f">{len(key)}H", *key)), GREEN_BEHIND) == expected


# Fault case 6: depth


@pytest.mark.parametrize(("format", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")])
def test_sixteen_bits_are_scaled_not_clipped(format: str, dtype: str) -> None:
    deep = np.array([[0, 257, 5140, 32768, 65535]], np.uint16).astype(dtype)
    assert greys(encoded(Image.fromarray(deep), format)) == [0, 1, 20, 128, 255]


def test_a_white_image_of_sixteen_bits_stays_white_and_grey_stays_grey() -> None:
    for value, grey in ((65535, 255), (32768, 128), (0, 0)):
        for format in ("PNG", "TIFF"):
            assert one_colour(Image.fromarray(np.full((4, 4), value, np.uint16)), format) == (grey,) * 3
        colour = struct.pack(">3H", value, value, 65535)
        assert (
            first_row(png(1, 16, 2, colour))
            == first_row(tiff(1, 16, colour, ">", t262=2, t277=3))
            == [[grey, grey, 255]]
        )
        assert first_row(tiff(1, 16, colour[::-1], t262=2, t277=3)) == [[255, grey, grey]]
    assert first_row(png(1, 16, 6, struct.pack(">4H", 65535, 0, 0, 32768))) == [[255, 127, 127]]
    assert first_row(png(1, 16, 4, struct.pack(">2H", 0, 32768))) == [[127, 127, 127]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_deep_tiffs(order: str) -> None:
    sixteen = struct.pack(order + "3H", 0, 32768, 65535)
    assert greys(tiff(3, 16, sixteen, order=order)) == [0, 128, 255]
    signed = struct.pack(order + "3h", -5, 0, 255)
    assert greys(tiff(3, 16, signed, order=order, t339=2)) == [0, 0, 255]
    if order == "<":  # Pillow opens these only so
        assert greys(tiff(3, 16, sixteen, t262=0)) == [255, 127, 0]  # white is zero
        assert greys(tiff(2, 12, bytes([0xFF, 0xF8, 0x00]))) == [255, 128]  # two values in three bytes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 7, 255], [0, 7, 255]),
        ([-9, 7, 128], [0, 7, 128]),
        ([0, 256, 257], [0, 1, 1]),
        ([-70000, 32768, 65535], [0, 128, 255]),
        ([0, 50_000, 100_000], [0, 128, 255]),
        ([0, 2**30, 2**31 - 1], [0, 128, 255]),
        ([-3, -2, -1], [0, 0, 0]),
    ],
)
def test_integers_that_tell_no_range_are_scaled_by_their_maximum(values: list[int], expected: list[int]) -> None:
    assert greys(encoded(Image.fromarray(np.array([values], np.int32)), "TIFF")) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.2, 1], [0, 51, 255]),
        ([-3e38, 0.5, 0.6], [0, 128, 153]),
        ([0, 1, 1.4, 1.5, 255], [0, 1, 1, 2, 255]),
        ([0, 1, 1.4], [0, 1, 1]),
        ([0, 257, 65535], [0, 1, 255]),
        ([0, 50_000, 100_000], [0, 128, 255]),
        ([0, 1e38, 2e38], [0, 128, 255]),
        ([-3, -2, -1], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_their_maximum(values: list[float], expected: list[int]) -> None:
    assert greys(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")) == expected

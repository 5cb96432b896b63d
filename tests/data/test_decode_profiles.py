"""Colour profiles are applied, and left aside where they are broken or unfit."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from tests.support.data.colours import NOISE, ORANGE, PALETTE, PLAIN, first_row, one_colour
from tests.support.datasets import encoded

# Fault case 5: colour profiles


def swapped() -> bytes:
    """A display whose red and blue are exchanged: sRGB's own profile with two tags renamed."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def profile_of(device: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2, by hand."""
    table, data, start = b"", b"", 128 + 4 + 12 * (len(tags) + 1)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)  # D50
    for name, value in {b"wtpt": white, **tags}.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"\0\0\0\0", 0x02400000, device, colours, connection)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags) + 1) + table + data


def linear_grey() -> bytes:
    """Grey whose values are amounts of light."""
    return profile_of(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv" + bytes(8)})


def black_ink_only() -> bytes:
    """A press on which cyan, magenta and yellow cannot be seen: a table of two steps per ink, black the last."""
    ramp = bytes(range(256))
    lightness = bytes(value for node in range(16) for value in ((0 if node & 1 else 255), 128, 128))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + lightness + ramp * 3
    return profile_of(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def test_the_colours_of_a_profile_become_srgb() -> None:
    assert one_colour(PLAIN, icc_profile=swapped()) == pytest.approx(ORANGE[::-1], abs=1)
    for format in ("TIFF", "WEBP"):
        assert one_colour(PLAIN, format, icc_profile=swapped(), lossless=True) == pytest.approx(ORANGE[::-1], abs=1)
    assert one_colour(PLAIN, "JPEG", icc_profile=swapped(), quality=100) == pytest.approx(ORANGE[::-1], abs=2)
    assert one_colour(PALETTE, icc_profile=swapped()) == pytest.approx(ORANGE[::-1], abs=1)


def test_threads_may_share_a_profile() -> None:
    contents = [encoded(Image.fromarray(np.roll(NOISE, shift, 0)), icc_profile=swapped()) for shift in range(40)]
    alone = [decode(content) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(decode, contents), strict=True):
            assert np.array_equal(one, other)


def test_a_grey_profile_applies_to_grey_of_any_depth() -> None:
    # sRGB of the light 0.5: 1.055 * 0.5 ** (1 / 2.4) - 0.055 = 0.7354
    grey = Image.new("L", (5, 3), 128)
    assert one_colour(grey) == (128, 128, 128)
    assert one_colour(grey, icc_profile=linear_grey()) == pytest.approx((188, 188, 188), abs=1)
    deep = Image.fromarray(np.full((3, 5), 32896, np.uint16))
    assert one_colour(deep, icc_profile=linear_grey()) == pytest.approx((188, 188, 188), abs=1)


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_a_press_profile_applies_to_inks(format: str) -> None:
    for inks, plain, printed in (
        ((255, 255, 255, 0), (0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0), (0, 0, 0)),
        ((255, 0, 0, 127), (0, 128, 128), (119, 119, 119)),  # L* = 50
    ):
        image = Image.new("CMYK", (16, 16), inks)
        assert one_colour(image, format) == pytest.approx(plain, abs=1)
        assert one_colour(image, format, icc_profile=black_ink_only()) == pytest.approx(printed, abs=2)


def test_the_background_is_srgb_whatever_the_profile() -> None:
    image = Image.new("RGBA", (2, 1), (*ORANGE, 255))
    image.putpixel((1, 0), (*ORANGE, 0))
    (colour, behind) = first_row(encoded(image, icc_profile=swapped()), ImageRules(min_side=1, background="#ff8000"))
    assert colour == pytest.approx(ORANGE[::-1], abs=1) and behind == [255, 128, 0]


def test_an_srgb_profile_changes_no_pixel() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red = int.from_bytes(srgb[srgb.index(b"rXYZ") + 4 :][:4], "big") + 8
    rounded = srgb[:red] + struct.pack(">i", struct.unpack(">i", srgb[red : red + 4])[0] + 25) + srgb[red + 4 :]
    by_littlecms = ImageCms.profileToProfile(
        Image.fromarray(NOISE), io.BytesIO(rounded), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert by_littlecms is not None and np.abs(np.asarray(by_littlecms).astype(int) - NOISE).max() == 1
    for image in (Image.fromarray(NOISE), Image.fromarray(NOISE).convert("RGBA")):
        for profile in (srgb, rounded):
            assert np.array_equal(decode(encoded(image, icc_profile=profile)), NOISE)
    assert not np.array_equal(decode(encoded(Image.fromarray(NOISE), icc_profile=swapped())), NOISE)


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
        linear_grey(),
        black_ink_only(),
        swapped()[:200],
        swapped()[:128] + bytes(400),
        b"no profile",
        b"",
        profile_of(b"link", b"RGB ", b"RGB ", {}),
        profile_of(b"mntr", b"RGB ", b"XYZ ", {}),
        swapped() + bytes(5 << 20),
    ],
    ids=range(11),
)
def test_a_profile_that_is_broken_or_unfit_is_ignored(profile: bytes) -> None:
    for format in ("TIFF", "WEBP", "JPEG") if len(profile) < 65_000 else ("TIFF",):
        plain = encoded(Image.fromarray(NOISE), format)
        assert np.array_equal(decode(encoded(Image.fromarray(NOISE), format, icc_profile=profile)), decode(plain))


def test_a_colour_profile_on_a_grey_image_is_ignored() -> None:
    assert one_colour(Image.new("L", (5, 3), 77), icc_profile=swapped()) == (77, 77, 77)
    assert one_colour(PLAIN.convert("CMYK"), "TIFF", icc_profile=swapped()) == ORANGE

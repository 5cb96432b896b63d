"""Files that are no good: each is refused with a reason, quickly, and does no harm."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data import decode as module
from fairsynth.data.decode import FORMATS, decode, inspect_image
from tests.support.data.pictures import NOISE, PICTURE, reason, refused
from tests.support.datasets import encoded

# Fault cases 1, 2 and 3: no bytes, not all bytes, no image


def test_a_file_without_bytes_is_empty() -> None:
    assert reason(b"") == "empty"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused_and_the_whole_one_is_not(format: str, share: float) -> None:
    content = encoded(PICTURE, format)
    assert decode(content).shape == NOISE.shape
    cut = reason(content[: int(len(content) * share)])
    assert cut == "truncated" or (format in ("WEBP", "GIF") and cut == "unidentified")


@pytest.mark.parametrize(
    "content", [b"not an image" * 50, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 100, b"\xff\xd8\xff", b"BM", b"a"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    assert reason(content) == "unidentified"


@pytest.mark.parametrize("format", FORMATS)
def test_the_content_tells_the_format_and_the_header_the_facts(format: str) -> None:
    facts = inspect_image(encoded(PICTURE, format))[1]
    assert facts == module.Facts(format, 128, 96, "P" if format == "GIF" else "RGB", 1)


@pytest.mark.parametrize("field_type", [2, 7, 12])
def test_a_tiff_whose_table_is_nonsense_is_refused(field_type: int) -> None:
    content = bytearray(encoded(PICTURE, "TIFF"))
    (table,) = struct.unpack_from("<I", content, 4)
    entries = range(table + 2, table + 2 + 12 * struct.unpack_from("<H", content, table)[0], 12)
    (offsets,) = (entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == 0x0111)
    struct.pack_into("<H", content, offsets + 2, field_type)  # where the pixels are: given as text, bytes or a fraction
    assert reason(bytes(content)) in ("unidentified", "truncated")


# Fault case 6: pixels that are no numbers


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad: float) -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert decode(encoded(Image.fromarray(values), "TIFF")).max() == 255
    values[3, 5] = bad
    assert refused(encoded(Image.fromarray(values), "TIFF")).args == ("not_finite", "1 pixels are no finite numbers")


# Fault case 8: nothing but pixels comes out


def test_nothing_but_pixels_comes_out() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})  # GPS
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        content = encoded(PICTURE, format, exif=exif, comment=b"a secret comment", icc_profile=b"a secret profile")
        assert b"secret" in content
        image = inspect_image(content)[0]
        assert type(image) is Image.Image and image.info == {} and not image.getexif()
        assert not any(b"secret" in encoded(image, again) for again in FORMATS)


# Fault case 11: formats that are not allowed


MAGIC: list[tuple[str, bytes]] = [
    ("FITS", b"SIMPLE  =                    T"), ("PDF", b"%PDF-1.4 "), ("PSD", b"8BPS\0\1\0\0\0\0\0\0\0\3"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("PostScript", b"\xc5\xd0\xd3\xc6\x20\0\0\0"),
    ("SVG or other XML", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("HTML text, not an image", b"<!DOCTYPE html><html>404"),
    ("HTML text, not an image", b"\n<?xml version='1.0'?>\n<html>"),
    ("SVG or other XML", b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>"),
    ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), ("AVIF", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1"),
    ("CR3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"), ("ISO media (MP4)", b"\0\0\0\x20ftypisom\0\0\2\0"),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 "), ("JPEG 2000", b"\xff\x4f\xff\x51\0\x2f"),
    ("JPEG XL", b"\xff\x0a\xfa\x1f"), ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"), ("JPEG XR", b"II\xbc\1\x08\0\0\0"),
    ("ICO", b"\0\0\1\0\1\0\x10\x10"), ("ICNS", b"icns\0\0\1\0"), ("PPM", b"P6\n2 2\n255\n"), ("QOI", b"qoif\0\0\0\1"),
    ("DDS", b"DDS |\0\0\0"), ("XCF", b"gimp xcf v011\0"), ("OpenEXR", b"v/1\x01\2\0\0\0"), ("Radiance", b"#?RADIANCE\n"),
    ("SGI", b"\x01\xda\1\1"), ("PCX", b"\n\5\1\x08"), ("DjVu", b"AT&TFORM\0\0"), ("MNG", b"\x8aMNG\r\n\x1a\n"),
    ("WMF", b"\xd7\xcd\xc6\x9a\0\0"), ("AVI or WAV", b"RIFF\0\0\1\0AVI LIST"), ("DICOM", bytes(128) + b"DICM"),
    ("TGA", bytes(2) + b"\2" + bytes(60) + b"TRUEVISION-XFILE.\0"), ("HDF5", b"\x89HDF\r\n\x1a\n"),
    ("NumPy", b"\x93NUMPY\1\0"), ("Microsoft Office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), ("ZIP", b"PK\3\4\x14\0"),
    ("gzip", b"\x1f\x8b\x08\0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), MAGIC)
def test_other_formats_are_named_by_their_first_bytes(name: str, content: bytes) -> None:
    bad = refused(content)
    assert bad.reason == "format" and bad.detail == f"{name}; allowed are JPEG, PNG, WEBP, BMP, TIFF, GIF"


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "EPS", "PDF", "JPEG2000", "AVIF", "SGI", "PCX", "DDS", "ICNS"])
def test_no_other_parser_of_pillow_sees_a_file(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(PICTURE.resize((64, 64)), format)
    asked: list[str] = []
    Image.init()
    for name in set(Image.OPEN) - set(FORMATS):
        monkeypatch.setitem(Image.OPEN, name, (asked.append, lambda _, name=name: asked.append(name)))
    assert reason(content) == "format" and reason(b"no image") == "unidentified" and not asked


# Fault cases 12 and 13: too small, too long, nothing to see


def test_small_and_long_images_are_refused_by_the_limits_named() -> None:
    assert refused(encoded(PICTURE.resize((40, 7)))).args == (
        "too_small",
        "40 x 7; the shorter side must have at least 8",
    )
    assert decode(encoded(PICTURE.resize((160, 8)))).shape == (8, 160, 3)
    assert refused(encoded(PICTURE.resize((8, 168)))).args == ("aspect", "8 x 168 = 21.0 to 1; the limit is 20 to 1")
    assert reason(encoded(PICTURE), ImageRules(min_side=97)) == "too_small"
    assert reason(encoded(PICTURE), ImageRules(max_aspect=1.3)) == "aspect"
    assert decode(encoded(PICTURE), rules=ImageRules(min_side=96, max_aspect=1.34)).shape == NOISE.shape


def test_an_image_of_one_colour_is_refused_unless_it_is_kept() -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (12, 200, 7)):
        bad = refused(encoded(Image.new("RGB", (16, 16), colour)))
        assert bad.args == ("low_information", f"all pixels within 2 levels of the colour {colour}")
    assert reason(encoded(Image.new("RGBA", (16, 16), (1, 2, 3, 0)))) == "low_information"
    kept = decode(encoded(Image.new("L", (16, 16), 9)), rules=ImageRules(constant="keep"))
    assert np.array_equal(kept, np.full((16, 16, 3), 9))


@pytest.mark.parametrize("where", [(0, 0), (8, 8), (15, 3)])
@pytest.mark.parametrize("channel", range(3))
def test_one_pixel_more_than_two_levels_apart_is_enough(where: tuple[int, int], channel: int) -> None:
    pixels = np.full((16, 16, 3), (100, 150, 200), np.uint8)
    pixels[(*where, channel)] -= 2
    assert reason(encoded(Image.fromarray(pixels))) == "low_information"
    pixels[(*where, channel)] -= 1
    assert np.array_equal(decode(encoded(Image.fromarray(pixels))), pixels)

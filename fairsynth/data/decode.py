"""From a file's bytes to RGB pixels, by one rule.

A file that cannot be used is refused with a reason (``BadImage``). Its header is checked before a pixel is
decoded. Pillow opens only the formats listed here; others are named by their first bytes alone, because the parsers
of rare formats are where files do harm.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fairsynth.config import ImageRules
from fairsynth.data.colour import scale_key, to_srgb
from fairsynth.data.metadata import BadImage
from fairsynth.data.png import essentials
from fairsynth.data.pointers import is_html, pointer_hint
from fairsynth.data.shapes import Shape, nearest
from fairsynth.escaping import printable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_RULES = ImageRules()
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_LOOK, _SHOWN = 256, 60  # bytes by which text is known, and characters of it that are shown
_ONE_COLOUR = 2  # levels between the darkest and the brightest pixel of an image without content
_ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 0x0112, 0x0142, 0x0143
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_FORMATS = {
    "FITS": (b"SIMPLE  =",), "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"), "PDF": (b"%PDF",), "PSD": (b"8BPS",),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JPEG XR": (b"II\xbc",),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"), "ICO": (b"\0\0\1\0",), "ICNS": (b"icns",),
    "PPM": tuple(b"P%c%c" % (digit, space) for digit in b"1234567fF" for space in b" \t\r\n"), "QOI": (b"qoif",),
    "DDS": (b"DDS ",), "XCF": (b"gimp xcf",), "OpenEXR": (b"v/1\x01",), "Radiance": (b"#?RADIANCE", b"#?RGBE"),
    "SGI": (b"\x01\xda",), "PCX": (b"\n\5\1",), "DjVu": (b"AT&TFORM",), "MNG": (b"\x8aMNG", b"\x8bJNG"),
    "WMF": (b"\xd7\xcd\xc6\x9a",), "HDF5": (b"\x89HDF",), "NumPy": (b"\x93NUMPY",),
    "Microsoft Office": (b"\xd0\xcf\x11\xe0",), "ZIP": (b"PK\3\4",), "gzip": (b"\x1f\x8b",),
}  # fmt: skip
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "CR3"}
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Facts:
    """The header's facts."""

    format: str
    """A name of FORMATS."""
    width: int
    """Upright: after the EXIF orientation."""
    height: int
    mode: str
    """Pillow's mode as stored."""
    frames: int
    """1 for a still. PNG and WebP state the number; for GIF and TIFF 2 means several: counting reads the file."""


class Shaped(NamedTuple):
    """An image as CLIP sees it, and as the base model does."""

    square: NDArray[np.uint8]
    """Its middle square, (S, S, 3)."""
    whole: NDArray[np.uint8]
    """In the shape that is nearest to its own, (H, W, 3)."""
    before: tuple[int, int]
    """Height and width that it had."""


def decode(content: bytes, size: int | None = None, rules: ImageRules = _RULES) -> NDArray[np.uint8]:
    """Decode to uint8 (H, W, 3): upright, sRGB, alpha over the background.

    ``size`` scales the shorter side and cuts the middle square. Raises BadImage, as ``inspect_image`` does.
    """
    image, _ = inspect_image(content, rules)
    return np.asarray(_square(image, size) if size else image)


def decode_square(content: bytes, size: int, rules: ImageRules) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """As ``decode`` at a size, and the height and width that the image had before."""
    image, facts = inspect_image(content, rules)
    return np.asarray(_square(image, size)), (facts.height, facts.width)


def decode_shaped(content: bytes, size: int, shapes: Sequence[Shape], rules: ImageRules) -> Shaped:
    """As ``decode`` at a size, and the same image scaled to cover the nearest of ``shapes`` and cut at the middle.

    The nearest shape being the square of that side, both are the same pixels. Raises BadImage, as ``inspect_image`` does.
    """
    image, facts = inspect_image(content, rules)
    shape = nearest(facts.height, facts.width, shapes)
    square, whole = (np.asarray(_fitted(image, *sides)) for sides in (Shape(size, size), shape))
    return Shaped(square, whole, (facts.height, facts.width))


def inspect_image(content: bytes, rules: ImageRules = _RULES) -> tuple[Image.Image, Facts]:
    """Decode to a Pillow RGB image of full size, without metadata; returns the header's facts too.

    Raises BadImage: empty, pointer, format, unidentified, too_large, several_frames, too_small, aspect,
    truncated, not_finite, low_information.
    """
    image = _opened(content, rules)
    mode, frames = image.mode, _frames(image)
    _check_header(image, frames, rules)
    rgb = _loaded(image, rules)
    if rules.constant == "refuse":
        _check_content(rgb)
    format = "JPEG" if image.format == "MPO" else str(image.format)
    return rgb, Facts(format, rgb.width, rgb.height, mode, frames)


def _opened(content: bytes, rules: ImageRules) -> Image.Image:
    if not content:
        raise BadImage("empty")
    pixels, info = essentials(content)
    try:
        image = Image.open(io.BytesIO(pixels), formats=FORMATS)
        for key, value in info.items():
            image.info.setdefault(key, value)
        return image
    except _BOMB as error:  # Pillow has a limit of its own, 179 million pixels
        raise BadImage("too_large", f"{error} The limit here is {rules.max_pixels:,} pixels.") from None
    except Exception:  # a damaged file makes Pillow raise almost anything
        allowed = ", ".join(FORMATS)
    if hint := pointer_hint(content):
        raise BadImage("pointer", hint)
    if is_html(content):
        raise BadImage("format", f"HTML text, not an image; allowed are {allowed}")
    other = _other_format(content)
    if other:
        raise BadImage("format", f"{other}; allowed are {allowed}")
    raise BadImage("unidentified", _why(pixels) or _text(content) or f"none of {allowed}")


def _why(content: bytes) -> str:
    """Why the parser of the format that a file begins with refuses it, in Pillow's words; empty if none claims it."""
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        try:
            if accept is None or accept(content[:16]):
                factory(io.BytesIO(content), "")
        except Exception as error:
            return f"{name} that cannot be read: {_words(error)}"
    return ""


def _text(content: bytes) -> str:
    """What a file of plain text says, such as a server's refusal; empty if it is no text."""
    try:
        start = codecs.getincrementaldecoder("utf-8-sig")().decode(content[:_LOOK])  # its end may cut a character
    except UnicodeDecodeError:
        return ""
    is_text = start.strip() and all(c.isprintable() or c.isspace() for c in start)
    return f"text, not an image: {' '.join(start.split())[:_SHOWN]!r}" if is_text else ""


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _other_format(content: bytes) -> str | None:
    """The name of a format that is not allowed, by its magic bytes."""
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return "HEIC" if brand in _HEIF else _BRANDS.get(brand, "ISO media (MP4)")
    text = content[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<?xml", b"<svg", b"<!doctype")):
        return "SVG or other XML"
    if content.startswith(b"RIFF") and content[8:12] in (b"AVI ", b"WAVE"):
        return "AVI or WAV"
    if content[128:132] == b"DICM":
        return "DICOM"
    if content[-18:-2] == b"TRUEVISION-XFILE":
        return "TGA"
    return next((name for name, starts in _OTHER_FORMATS.items() if content.startswith(starts)), None)


def _frames(image: Image.Image) -> int:
    if image.format == "MPO":  # one photograph of a camera; what follows it are previews, depth or another eye
        return 1
    try:
        several = getattr(image, "is_animated", False)  # for a GIF this tries to find the second frame
    except Exception:
        return 1  # nothing that could be shown follows the first frame
    if not several:
        return 1
    return int(getattr(image, "n_frames", 2)) if image.format in ("PNG", "WEBP") else 2


def _check_header(image: Image.Image, frames: int, rules: ImageRules) -> None:
    width, height = image.size
    shorter, longer = min(width, height), max(width, height)
    pixels = max(width * height, _tile_pixels(image))
    if pixels > rules.max_pixels:
        detail = f"{width} x {height}, {pixels:,} pixels to decode; the limit is {rules.max_pixels:,}"
        raise BadImage("too_large", detail)
    if frames > 1 and rules.frames == "refuse":
        raise BadImage("several_frames", "an animation or several pages; only stills are allowed")
    if shorter < rules.min_side:
        raise BadImage("too_small", f"{width} x {height}; the shorter side must have at least {rules.min_side}")
    if longer > rules.max_aspect * shorter:
        ratio = f"{longer / shorter:.1f} to 1; the limit is {rules.max_aspect:g} to 1"
        raise BadImage("aspect", f"{width} x {height} = {ratio}")


def _tile_pixels(image: Image.Image) -> int:
    """TIFF only: a tile is decoded whole, and 150 bytes can claim one of a gigabyte for an image of 64 x 64."""
    if image.format != "TIFF":
        return 0
    tags = getattr(image, "tag_v2", {})
    sides = [side for side in (tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)) if isinstance(side, int)]
    return sides[0] * sides[1] if len(sides) == 2 else 0


def _loaded(image: Image.Image, rules: ImageRules) -> Image.Image:
    try:
        scale_key(image)
        image.load()
        rgb = to_srgb(image, rules.background)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage("truncated", _words(error)) from None
    turn = _turn(image)
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """By the EXIF orientation; Pillow's own function also rewrites the other fields and fails on odd ones."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata do not spoil the pixels
        return None


def _check_content(rgb: Image.Image) -> None:
    corner = cast("tuple[int, int, int]", rgb.getpixel((0, 0)))
    middle = cast("tuple[int, int, int]", rgb.getpixel((rgb.width // 2, rgb.height // 2)))
    if max(corner) - max(middle) > _ONE_COLOUR or max(middle) - max(corner) > _ONE_COLOUR:
        return  # nearly always, and found without a look at all pixels
    spreads = cast("tuple[tuple[int, int], ...]", rgb.getextrema())
    if all(high - low <= _ONE_COLOUR for low, high in spreads):
        raise BadImage("low_information", f"all pixels within {_ONE_COLOUR} levels of the colour {corner}")


def _square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` and cut the middle."""
    return _fitted(image, size, size)


def _fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale to cover so many pixels and cut the middle."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)

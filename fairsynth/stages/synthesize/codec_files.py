"""How a source file was written, by its header."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from fairsynth.data.decode import FORMATS

CODECS = ("JPEG", "PNG", "WEBP")
# The counts of codes by length of the standard's table for luminance AC (ITU-T T.81, table K.5): with it in a
# file, its writer did not compute tables of its own.
_STANDARD_HUFFMAN = bytes((0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D))
# What is written for a mode that sources may have and 8-bit RGB cannot become, or need not.
_MODES = {
    "JPEG": {"L": "L"},
    "PNG": {"1": "L", "I": "L", "I;16": "L", "I;16B": "L", "F": "L"} | {m: m for m in ("L", "LA", "P", "RGBA")},
    "WEBP": {"RGBA": "RGBA"},
}


class Look(NamedTuple):
    """The way a file was written; fields as in ``codec.Codec``."""

    format: str
    mode: str
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = -1
    progressive: bool = False
    optimized: bool = False
    lossless: bool = False


def look_of(content: bytes) -> tuple[Look, int] | None:
    """How a file was written, and its shorter side in pixels; None if it cannot be opened."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _look(image, content), min(image.size)
    except Exception:  # a damaged file makes Pillow raise almost anything; ingest has set it aside
        return None


def _look(image: Image.Image, content: bytes) -> Look:
    # An MPO is a JPEG with previews behind it.
    format = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WEBP"}.get(str(image.format), "PNG")
    # Formats without loss that are not PNG: their modes are not PNG's, but grey stays grey.
    mode = _MODES[format].get(image.mode, "RGB")
    if format == "JPEG":
        progressive = bool(image.info.get("progressive"))
        optimized = not progressive and _STANDARD_HUFFMAN not in content
        return Look(format, mode, _tables(image), get_sampling(image), progressive, optimized)
    return Look(format, mode, lossless=format == "WEBP" and _webp_lossless(content))


def _tables(image: Any) -> tuple[tuple[int, ...], ...]:
    """Quantisation tables in the order of the components, without the last one's repetitions.

    libjpeg gives component i the table i, and the last table to the components after it. A table's number
    in the file may be another than its component's.
    """
    numbers = [component[3] for component in image.layer][:3]
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        numbers.pop()
    return tuple(tuple(image.quantization[number]) for number in numbers)


def _webp_lossless(content: bytes) -> bool:
    """Whether the image's chunk is VP8L, not VP8 (WebP container specification)."""
    place = 12
    while place + 8 <= len(content):
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        place += 8 + size + size % 2
    return False

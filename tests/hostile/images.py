"""Image files: bombs, disguises, damage, sizes."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image, PngImagePlugin

from tests.data.test_decode_bombs import gif_of, tiff, webp_of
from tests.hostile.cases import INGEST, INSPECT, Case, Place, an_image, sparse, with_image, with_rows
from tests.support.datasets import encoded

_SIDE = 7000  # of 49 million pixels, just below the limit


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_with(*chunks: bytes) -> bytes:
    content = an_image()
    return content[:33] + b"".join(chunks) + content[33:]


def _png_of(width: int, height: int, colour: int = 0, depth: int = 1) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + _chunk(b"IEND", b"")
    )


def _noisy(mode: str, format: str) -> bytes:
    """As large as may be, of a mode whose way to RGB takes much memory; a corner of noise, that it is not of one colour."""
    image = Image.new(mode, (_SIDE, _SIDE))
    image.paste(Image.effect_noise((64, 64), 80).convert(mode), (0, 0))
    return encoded(image, format)


def _sparse(name: str, size: int, start: bytes, place: Place) -> None:
    with_rows(place, f"{name},train,cat,indoor\n")
    sparse(place.data / name, size, start)


def _animated(format: str, n: int) -> bytes:
    frames = [Image.fromarray(np.full((8, 8), i % 256, np.uint8)) for i in range(n)]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=20)


def _fuzzed(format: str, seed: int) -> bytes:
    content, draw = bytearray(encoded(Image.effect_noise((64, 64), 90).convert("RGB"), format)), random.Random(seed)
    for _ in range(20):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def _many(contents: list[bytes], suffix: str, place: Place) -> None:
    names = [f"odd{i}.{suffix}" for i in range(len(contents))]
    with_rows(place, "".join(f"{name},train,cat,indoor\n" for name in names))
    for name, content in zip(names, contents, strict=True):
        (place.data / name).write_bytes(content)


def _text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    for number in range(50):
        info.add_text(f"k{number}", "x" * 10_000_000, zip=True)
    return encoded(Image.open(io.BytesIO(an_image())), "PNG", pnginfo=info)


_MADE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "1 bit, 20,000 x 20,000": ("png", lambda: encoded(Image.new("1", (20_000, 20_000)))),
    "2^31 x 2^31": ("png", lambda: _png_of(2**31 - 1, 2**31 - 1)),
    "1 x 2 billion": ("png", lambda: _png_of(1, 2**31 - 1)),
    "a canvas of WebP": ("webp", lambda: webp_of(16_000, 16_000)),
    "a screen of GIF": ("gif", lambda: gif_of(65_535, 65_535)),
    "a tile of TIFF": ("tiff", lambda: tiff(64, (60_000, 60_000), 8)),
    "texts of 500 MB": ("png", lambda: _text_bomb()),
    "a profile of 1 GB": ("png", lambda: _png_with(_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(300_000_000), 9)))),
    "a million chunks": ("png", lambda: _png_with(_chunk(b"teST", b"") * 1_000_000)),
    "8,000 frames": ("gif", lambda: _animated("GIF", 8000)),
    "2,000 pages": ("tiff", lambda: _animated("TIFF", 2000)),
    "1,000 frames of APNG": ("png", lambda: _animated("PNG", 1000)),
}
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
_DISGUISES = {
    "SVG": _SVG, "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n", "PDF": b"%PDF-1.7\n", "PSD": b"8BPS" + bytes(100),
    "FITS": b"SIMPLE  =            T" + bytes(2880), "ZIP": b"PK\3\4" + bytes(100), "HTML": b"<html><script>",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "pickle": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
    "ELF": b"\x7fELF" + bytes(100), "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    "text that steers": b"\x1b]0;x\x07\x1b[2J" * 10, "nothing": b"", "zeros": bytes(1000),
}  # fmt: skip


def cases() -> Iterator[Case]:
    """All of this kind."""
    for number, (name, (suffix, content)) in enumerate(_MADE.items()):
        yield Case("images", name, partial(_one, content, suffix), INGEST if number % 2 else INSPECT)
    for name, disguised in _DISGUISES.items():
        yield Case("images", f"{name} by the name of a PNG", partial(with_image, content=disguised))
    for mode, format in (
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("I;16", "PNG"),
        ("F", "TIFF"),
        ("I", "TIFF"),
        ("CMYK", "TIFF"),
        ("P", "PNG"),
    ):
        yield Case("images", f"49 million pixels of {mode}", partial(_large, mode, format))
    for size, start, what in ((20 << 30, b"", "zeros"), (3 << 30, an_image(), "an image and zeros")):
        for suffix in ("png", "jpg", "gif"):
            yield Case(
                "images", f"{suffix}: {size >> 30} GB of {what}", partial(_sparse, f"odd.{suffix}", size, start), INGEST
            )
    for format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        yield Case("images", f"20 damaged {format} files", partial(_damaged, format))


def _one(content: Callable[[], bytes], suffix: str, place: Place) -> None:
    with_image(place, content(), f"odd.{suffix}")


def _large(mode: str, format: str, place: Place) -> None:
    with_image(place, _noisy(mode, format), f"odd.{format.lower()}")


def _damaged(format: str, place: Place) -> None:
    _many([_fuzzed(format, seed) for seed in range(20)], format.lower(), place)

"""From a file's bytes to RGB pixels, by one rule."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 50_000_000
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(Exception):
    """An image that cannot be used; ``reason`` is one word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image file and their SHA-256."""

    content: bytes
    sha256: str


def read_file(path: Path) -> ImageFile:
    """Read a file. Raises BadImage (missing_file, unreadable, empty)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadImage("missing_file") from None
    except OSError as error:
        raise BadImage("unreadable", str(error.strerror)) from None
    if not content:
        raise BadImage("empty")
    return ImageFile(content, hashlib.sha256(content).hexdigest())


def decode(content: bytes, size: int | None = None) -> NDArray[np.uint8]:
    """Decode to uint8 (H, W, 3): upright by EXIF, alpha over white, 16 bits scaled; ``size`` scales and crops to a square.

    Raises BadImage (unidentified, too_large, truncated).
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too_large", str(error)) from None
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise BadImage("unidentified", str(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("too_large", f"{image.width} x {image.height}")
    try:
        image.load()
        rgb = _to_rgb(_upright(image))
    except Exception as error:
        raise BadImage("truncated", str(error)) from None
    return np.asarray(_square(rgb, size) if size else rgb)


def _upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation; Pillow's own function also rewrites the other fields and fails on odd ones."""
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I;16", "I")) or image.mode == "F":
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("not a number among the pixels")
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max()))
        return Image.fromarray((values.clip(0, top) * (255 / top) + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` and cut the middle."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)

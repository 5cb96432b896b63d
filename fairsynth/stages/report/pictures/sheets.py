"""Image files as small tiles, and tiles as sheets that are embedded in the page, within its size."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairsynth.config import ANY_IMAGE
from fairsynth.config.report import Faces
from fairsynth.data.decode import decode

SIDE, COLUMNS = 64, 6
# Squares of a blurred image along a side: eyes and mouth of a portrait fall into one.
BLURRED = 6
_MARGIN = (236, 236, 236)
# Base64 makes four characters of three bytes; the page has about as much again for everything else.
BUDGET = 7_000_000
# What is tried until all sheets fit: WebP's quality, and the share of the tiles.
_STEPS = ((82, 1.0), (60, 1.0), (60, 0.5), (40, 0.5), (40, 0.25), (25, 0.15))


@dataclass(frozen=True)
class Panel:
    """Tiles under a caption; ``total``: how many images they stand for."""

    caption: str
    tiles: Sequence[NDArray[np.uint8]]
    total: int


@dataclass(frozen=True)
class Sheet:
    """A panel as the page shows it: ``uri`` is empty for no tiles, ``across`` their number in the first row."""

    caption: str
    uri: str
    shown: int
    total: int
    across: int = 0
    rows: int = 0


def tile(content: bytes, faces: Faces = "shown") -> NDArray[np.uint8]:
    """An image file as uint8 (SIDE, SIDE, 3), without the file's metadata; blurred beyond recovery if ``faces`` says so.

    One that is no square has margins, unless it is blurred.
    """
    image = Image.fromarray(decode(content, rules=ANY_IMAGE))
    if faces == "blurred":
        image = image.resize((BLURRED, BLURRED), Image.Resampling.BOX)
    # Tiny images keep their pixels.
    kind = Image.Resampling.BICUBIC if max(image.size) > SIDE or faces == "blurred" else Image.Resampling.NEAREST
    scale = SIDE / max(image.size)
    inner = image.resize([max(1, round(length * scale)) for length in image.size], kind)
    whole = Image.new("RGB", (SIDE, SIDE), _MARGIN)
    whole.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
    return np.asarray(whole)


def sheet(files: Sequence[bytes], caption: str = "", faces: Faces = "shown") -> Sheet:
    """Image files as one sheet of the best quality."""
    return _sheet(Panel(caption, [tile(content, faces) for content in files], len(files)), *_STEPS[0])


def sheets(panels: Sequence[Panel], budget: int = BUDGET) -> list[Sheet]:
    """All panels as sheets that together take ``budget`` bytes at most: with less quality, then fewer tiles, if need be.

    Of the tiles of a panel at least one stays, so with very many panels the sum may be larger still.
    """
    made: list[Sheet] = []
    for quality, share in _STEPS:
        made = [_sheet(panel, quality, share) for panel in panels]
        if sum(len(one.uri) for one in made) <= budget:
            break
    return made


def _sheet(panel: Panel, quality: int, share: float) -> Sheet:
    tiles = panel.tiles[: max(1, round(share * len(panel.tiles)))]
    if not tiles:
        return Sheet(panel.caption, "", 0, panel.total)
    across = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // across)
    # Places without an image let the page show through, light or dark.
    pixels = np.zeros((rows * SIDE, across * SIDE, 4), np.uint8)
    for place, image in enumerate(tiles):
        y, x = place // across * SIDE, place % across * SIDE
        pixels[y + 1 : y + SIDE - 1, x + 1 : x + SIDE - 1, :3] = image[1:-1, 1:-1]
        pixels[y + 1 : y + SIDE - 1, x + 1 : x + SIDE - 1, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "WEBP", quality=quality, method=2)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Sheet(panel.caption, uri, len(tiles), panel.total, across, rows)

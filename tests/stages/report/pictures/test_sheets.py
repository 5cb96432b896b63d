"""Sheets of images: every image in its place, blurred where it must be, within the page's size."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.stages.report.pictures.sheets import BLURRED, COLUMNS, SIDE, Panel, Sheet, sheet, sheets, tile
from tests.support.datasets import encoded


def pixels(shown: Sheet) -> NDArray[np.uint8]:
    content = base64.b64decode(shown.uri.removeprefix("data:image/webp;base64,"), validate=True)
    image = Image.open(io.BytesIO(content))
    assert image.format == "WEBP"
    return np.asarray(image.convert("RGBA"))


def noise(seed: int, side: int = 128) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize(("n", "size"), [(1, (64, 64)), (6, (64, 384)), (7, (128, 384)), (24, (256, 384))])
def test_every_image_is_in_its_place_and_empty_places_are_clear(n: int, size: tuple[int, int]) -> None:
    colours = [(10 * i, 255 - 10 * i, 100) for i in range(n)]
    shown = sheet([encoded(Image.new("RGB", (20, 20), colour)) for colour in colours])
    found = pixels(shown)
    assert found.shape == (*size, 4) and (shown.across, shown.rows, shown.shown) == (min(n, 6), -(-n // 6), n)
    for i, colour in enumerate(colours):
        middle = found[i // COLUMNS * SIDE + 32, i % COLUMNS * SIDE + 32]
        assert middle[3] == 255 and np.abs(middle[:3].astype(int) - colour).max() < 12
    assert n % 6 == 0 or n < 6 or found[-32, -32, 3] == 0


def test_a_portrait_is_not_squeezed() -> None:
    shown = tile(encoded(Image.new("RGB", (60, 120), (10, 200, 30))))
    coloured = (np.abs(shown.astype(int) - (10, 200, 30)) < 12).all(2)
    assert coloured[:, 16:48].all() and not coloured[:, :16].any() and not coloured[:, 48:].any()


def test_odd_images_have_a_place_in_a_sheet_too() -> None:
    # One colour, tiny, very long: a run's own rules may allow them, and rejected images are shown as they are.
    odd = [Image.new("RGB", size) for size in ((20, 20), (2, 2), (400, 9))]
    assert sheet([encoded(image) for image in odd]).shown == 3


def test_no_files_are_no_sheet() -> None:
    assert sheet([]).uri == "" and sheet([]).total == 0


def test_a_blurred_tile_says_no_more_than_its_squares() -> None:
    content = noise(0)
    squares = np.asarray(Image.fromarray(content).resize((BLURRED, BLURRED), Image.Resampling.BOX))
    # Another image with the same mean colours gives the same tile: nothing finer is left.
    flat = np.asarray(Image.fromarray(squares).resize((126, 126), Image.Resampling.NEAREST))
    blurred = [tile(encoded(Image.fromarray(image)), "blurred").astype(int) for image in (content, flat)]
    assert np.abs(blurred[0] - blurred[1]).max() <= 1
    assert np.abs(tile(encoded(Image.fromarray(content))).astype(int) - blurred[0]).max() > 50


def test_sheets_that_are_too_large_lose_quality_and_then_images() -> None:
    panels = [Panel(str(i), [noise(24 * i + j, SIDE) for j in range(24)], 99) for i in range(4)]
    large = sheets(panels)
    assert [(one.caption, one.shown, one.total) for one in large] == [(str(i), 24, 99) for i in range(4)]
    size = sum(len(one.uri) for one in large)
    smaller = sheets(panels, size * 3 // 4)
    assert sum(len(one.uri) for one in smaller) <= size * 3 // 4 and [one.shown for one in smaller] == [24] * 4
    least = sheets(panels, size // 6)
    assert sum(len(one.uri) for one in least) <= size // 6 and all(1 <= one.shown < 24 for one in least)

"""Shapes of images: a few, about as large as the square, and every image in the one that is nearest to its own."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode, decode_shaped, decode_square
from fairsynth.data.shapes import MOST_SHAPES, Shape, buckets, joined, nearest, parted, shape_of

SIZES = st.tuples(st.sampled_from([4, 8, 16, 32, 64]), st.integers(1, 64)).map(
    lambda pair: (pair[0] * pair[1], pair[0])
)


@given(SIZES)
@settings(deadline=None, max_examples=60)
def test_shapes_are_about_as_large_as_the_square_and_not_too_long(sizes: tuple[int, int]) -> None:
    size, factor = sizes
    found = buckets(size, factor)
    assert found[0] == (size, size) and len(found) == len({*found}) <= MOST_SHAPES
    for shape in found:
        assert shape.height % factor == shape.width % factor == 0
        assert max(shape) <= 2 * min(shape)
        assert 3 / 4 <= shape.height * shape.width / size**2 <= 4 / 3
        assert Shape(shape.width, shape.height) in found
    if size % (16 * factor) == 0:
        assert len(found) == MOST_SHAPES, "sixteenths of a side leave no ratio out"


def test_the_shapes_of_usual_sizes() -> None:
    upright = [shape for shape in buckets(1024, 8) if shape.height > shape.width]
    assert upright == [(1152, 896), (1280, 832), (1344, 768)]
    assert [shape for shape in buckets(512, 8) if shape.height > shape.width] == [(576, 448), (640, 416), (672, 384)]
    assert buckets(1024, 8) == buckets(1024, 16) == buckets(1024, 64), "the step is as coarse for all of them"
    assert buckets(8, 8) == ((8, 8),)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([32, 512, 1024]))
@settings(deadline=None, max_examples=100)
def test_an_image_goes_to_the_nearest_ratio(height: int, width: int, size: int) -> None:
    shapes = buckets(size, 4)
    found, ratio = nearest(height, width, shapes), math.log(height / width)
    apart = [abs(ratio - math.log(shape.height / shape.width)) for shape in shapes]
    assert apart[shapes.index(found)] <= min(apart) + 1e-12
    assert nearest(width, height, shapes) == (found.width, found.height)


def test_of_two_as_near_the_squarer_is_taken() -> None:
    shapes = (Shape(10, 10), Shape(20, 10), Shape(10, 20))
    assert nearest(7, 7, shapes) == (10, 10)
    # A ratio whose square is 2 is no ratio of whole numbers; with 4 in the place of 2 there is one.
    assert nearest(2, 1, (Shape(10, 10), Shape(40, 10))) == (10, 10)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (500, 100), (97, 101), (40, 30)])
def test_an_image_is_seen_as_its_middle_square_and_whole(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    shapes = buckets(32, 4)
    found = decode_shaped(buffer.getvalue(), 32, shapes, ImageRules())
    square, before = decode_square(buffer.getvalue(), 32, ImageRules())
    assert np.array_equal(found.square, square) and found.before == before == (height, width)
    assert found.whole.shape[:2] == nearest(height, width, shapes)
    if found.whole.shape == square.shape:
        assert np.array_equal(found.whole, square)


def test_a_shape_shows_what_the_square_leaves_out() -> None:
    pixels = np.full((40, 60, 3), 128, np.uint8)
    pixels[:, :6], pixels[:, -6:] = (255, 0, 0), (0, 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    found = decode_shaped(buffer.getvalue(), 32, buckets(32, 4), ImageRules())
    assert found.whole.shape == (28, 40, 3)
    assert found.whole[14, 0].tolist() == [255, 0, 0] and found.whole[14, -1].tolist() == [0, 0, 255]
    assert np.ptp(found.square, axis=(0, 1)).max() < 10, "the square has the middle alone"
    assert np.array_equal(decode(buffer.getvalue(), 32), found.square)


def test_rows_of_bytes_become_images_again() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (*shape, 3), np.uint8) for shape in buckets(16, 4)]
    shapes = [Shape(*image.shape[:2]) for image in images]
    again = parted(joined(images), shapes)
    assert all(np.array_equal(one, other) for one, other in zip(again, images, strict=True))
    assert parted(joined([]), []) == []
    assert shape_of(7) == (7, 7) and shape_of(Shape(2, 3)) == (2, 3)

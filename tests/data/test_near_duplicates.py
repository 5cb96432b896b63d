"""Near duplicates: what people would call the same picture is found, different pictures are not."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fairsynth.data import near_duplicates as module
from fairsynth.data.near_duplicates import HASH_BITS, look, perceptual_hash
from tests.support.datasets import crops, encoded

# Squares with much to see: what is nearly flat has a hash that each rounding turns.
RICH = [image for image in crops() if np.asarray(image).std((0, 1)).mean() > 40][:60]


def rows(values: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    """Byte strings as the rows of a matrix."""
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, width)


def near_duplicates(hashes: Sequence[bytes], looks: Sequence[bytes]) -> list[list[int]]:
    """Sets of images that look alike, from byte strings."""
    return module.near_duplicates(rows(hashes, 8), rows(looks, 192))


def spread_out(hashes: Sequence[bytes], looks: Sequence[bytes]) -> list[int]:
    """Images that look like none before them, from byte strings."""
    return module.spread_out(rows(hashes, 8), rows(looks, 192))


def found(images: list[Image.Image]) -> list[list[int]]:
    """Sets of images that look alike."""
    return near_duplicates([perceptual_hash(i) for i in images], [look(i) for i in images])


def reopened(image: Image.Image, format: str, **options: object) -> Image.Image:
    """The image after a round through a file."""
    return Image.open(io.BytesIO(encoded(image, format, **options))).convert("RGB")


CHANGES = {
    "jpeg 90": lambda image: reopened(image, "JPEG", quality=90),
    "jpeg 60": lambda image: reopened(image, "JPEG", quality=60),
    "webp 75": lambda image: reopened(image, "WEBP", quality=75),
    "half": lambda image: image.resize((48, 48), Image.Resampling.LANCZOS),
    "three quarters": lambda image: image.resize((72, 72), Image.Resampling.BICUBIC),
    "double": lambda image: image.resize((192, 192), Image.Resampling.BICUBIC),
    "brighter": lambda image: image.point(lambda level: min(255, level + 4)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_of_one_picture_are_found(change: str) -> None:
    sets = found([*RICH, *map(CHANGES[change], RICH)])
    right = [[i, i + len(RICH)] for i in range(len(RICH))]
    assert all(pair in right for pair in sets)
    assert len(sets) >= 0.9 * len(RICH)


def test_different_pictures_are_not_found() -> None:
    assert len(crops()) > 300 and found(list(crops())) == []


@pytest.mark.parametrize("change", [ImageOps.mirror, ImageOps.flip, ImageOps.invert])
def test_another_view_is_no_copy(change: object) -> None:
    assert found([RICH[0], change(RICH[0])]) == []  # type: ignore[operator]


def test_the_same_shapes_in_other_colours_are_no_copy() -> None:
    # The hash is of grey levels: the thumbnails tell them apart.
    red, green = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64))
    ramp = np.asarray(RICH[0].convert("L").resize((64, 64)), np.uint8)
    for image, channel, share in ((red, 0, 0.587), (green, 1, 0.299)):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[..., channel] = ramp * share
        image.paste(Image.fromarray(pixels))
    assert bin(int.from_bytes(perceptual_hash(red)) ^ int.from_bytes(perceptual_hash(green))).count("1") <= HASH_BITS
    assert found([red, green]) == []


def test_sets_grow_over_their_members() -> None:
    picture = RICH[0]
    copies = [reopened(picture, "JPEG", quality=q) for q in (95, 85, 75)]
    assert found([RICH[1], picture, RICH[2], *copies, RICH[3]]) == [[1, 3, 4, 5]]


def test_nothing_and_one_image_have_no_copies() -> None:
    assert near_duplicates([], []) == [] and found([RICH[0]]) == []


def test_many_equal_hashes_stay_quick_and_are_one_set() -> None:
    assert near_duplicates([b"\0" * 8] * 5000, [b"\0" * 192] * 5000) == [list(range(5000))]


def by_hand(hashes: list[bytes], looks: list[bytes]) -> list[list[int]]:
    """The same by comparing all pairs."""
    group = list(range(len(hashes)))
    for a, b in itertools.combinations(range(len(hashes)), 2):
        bits = bin(int.from_bytes(hashes[a]) ^ int.from_bytes(hashes[b])).count("1")
        one, two = (np.frombuffer(looks[i], np.uint8).astype(int) for i in (a, b))
        if bits <= HASH_BITS and np.abs(one - two).mean() <= 6.0:
            group = [group[a] if g == group[b] else g for g in group]
    sets = [[i for i, g in enumerate(group) if g == value] for value in dict.fromkeys(group)]
    return [members for members in sets if len(members) > 1]


def likes(data: st.DataObject) -> tuple[list[bytes], list[bytes]]:
    """Hashes and thumbnails, many of them close to each other."""
    centres = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    hashes, looks = [], []
    for _ in range(data.draw(st.integers(1, 20))):
        flips = data.draw(st.lists(st.integers(0, 63), max_size=4))
        value = data.draw(st.sampled_from(centres))
        for bit in flips:
            value ^= 1 << bit
        hashes.append(value.to_bytes(8))
        looks.append(bytes([data.draw(st.sampled_from((100, 105, 112)))]) * 192)
    return hashes, looks


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_the_index_finds_what_all_pairs_find(data: st.DataObject) -> None:
    hashes, looks = likes(data)
    assert near_duplicates(hashes, looks) == by_hand(hashes, looks)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_each_image_stays_unless_one_before_it_that_stays_looks_alike(data: st.DataObject) -> None:
    hashes, looks = likes(data)
    kept: list[int] = []
    for i in range(len(hashes)):
        if not any(by_hand([hashes[k], hashes[i]], [looks[k], looks[i]]) for k in kept):
            kept.append(i)
    assert spread_out(hashes, looks) == kept


def test_the_ends_of_a_chain_stay_and_its_middle_goes_if_it_comes_later() -> None:
    chain = [bytes([level]) * 192 for level in (100, 106, 112)]
    equal = [b"\xf0" * 8] * 3
    assert near_duplicates(equal, chain) == [[0, 1, 2]]
    assert spread_out(equal, chain) == [0, 2]
    assert spread_out(equal, [chain[1], chain[0], chain[2]]) == [0]
    assert spread_out(equal, [chain[0], chain[2], chain[1]]) == [0, 1]
    # The same along the hashes: 4 bits from neighbour to neighbour, 8 from end to end.
    hashes = [bytes([bits]) * 8 for bits in (0,)] + [b"\x0f" + b"\0" * 7, b"\xff" + b"\0" * 7]
    assert spread_out(hashes, chain[:1] * 3) == [0, 2]


def test_of_pictures_and_their_copies_the_first_of_each_stays() -> None:
    pictures = [RICH[0], reopened(RICH[0], "JPEG", quality=90), RICH[1], RICH[2], reopened(RICH[1], "JPEG", quality=90)]
    assert spread_out([perceptual_hash(i) for i in pictures], [look(i) for i in pictures]) == [0, 2, 3]


def test_of_nothing_nothing_stays_and_of_equal_images_the_first() -> None:
    assert spread_out([], []) == []
    assert spread_out([b"\0" * 8] * 5000, [b"\0" * 192] * 5000) == [0]

"""The copy detector: planted copies score near 1 and name their source, other images of the disguise do not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from fairsynth.data.copies import CopyDetector, thumbnails
from fairsynth.stages.audit.memorisation import DISGUISES, Disguise, plant


@cache
def tiles() -> NDArray[np.uint8]:
    """120 squares of two photographs that overlap nowhere, uint8 (120, 64, 64, 3), shuffled."""
    squares = [
        load_sample_image(name)[y : y + 64, x : x + 64]
        for name in ("china.jpg", "flower.jpg")
        for y in range(0, 384, 64)
        for x in range(0, 640, 64)
    ]
    return np.stack(squares)[np.random.default_rng(0).permutation(len(squares))]


def blind(images_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embeddings that say nothing: float32 (N, 2), all alike."""
    return np.tile(np.float32([1, 0]), (len(images_NHW3), 1))


def detector(images_NHW3: NDArray[np.uint8]) -> CopyDetector:
    return CopyDetector(blind(images_NHW3), thumbnails(images_NHW3))


def score(found: CopyDetector, images_NHW3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return found.score(blind(images_NHW3), thumbnails(images_NHW3))


def by_hand(query_HW3: NDArray[np.uint8], trained_HW3: NDArray[np.uint8]) -> float:
    """The best np.corrcoef over mirrored or not, sizes and places, channels weighted by the deviations of both."""

    def plane(image: NDArray[np.uint8], channel: int) -> NDArray[np.float32]:
        values = image[..., channel].astype(np.float32)
        return values - 0.8 * gaussian_filter(values, 4.0, mode="nearest")

    best = -1.0
    for mirrored in (query_HW3, query_HW3[:, ::-1]):
        for size in (32, 31, 30, 29, 28):
            small = [
                np.asarray(Image.fromarray(plane(mirrored, c)).resize((size, size), Image.Resampling.BICUBIC))
                for c in range(3)
            ]
            for y in range(33 - size):
                for x in range(33 - size):
                    cuts = [plane(trained_HW3, c)[y : y + size, x : x + size] for c in range(3)]
                    pairs = list(zip(small, cuts, strict=True))
                    found = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
                    best = max(best, float(np.average(found, weights=[a.std() * b.std() for a, b in pairs])))
    return best


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_score_is_the_best_correlation_of_all_windows(disguise: Disguise, other: bool) -> None:
    # Far from flat: by hand, nothing is taken off for that.
    lively = thumbnails(tiles()[np.argsort(tiles().std((1, 2)).min(1))[-3:]])
    for place in (0, 1):
        query = plant(lively[place + other], disguise, seed=place)
        (found,), _ = score(detector(lively[place : place + 1]), query[None])
        assert found == pytest.approx(by_hand(query, lively[place]), abs=0.005)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_copies_of_photographs_are_found_with_their_source(disguise: Disguise) -> None:
    textured = tiles()[tiles().std((1, 2)).max(1) > 8]  # without empty sky
    trained, others = textured[:50], textured[50:]
    found = detector(trained)
    scores, sources = score(found, np.stack([plant(image, disguise, seed) for seed, image in enumerate(trained)]))
    assert (scores > 0.77).mean() >= 0.94
    assert (sources == np.arange(50)).mean() >= 0.98
    assert (score(found, others)[0] > 0.77).sum() <= 1  # of 49


def test_a_candidate_that_pixels_do_not_name_comes_by_its_embedding() -> None:
    # Twenty plain copies of one image crowd out the other by pixels; only the embedding leads to it.
    image, crowd = tiles()[0], tiles()[1]
    trained = np.stack([crowd] * 20 + [image])
    embeddings = np.tile(np.float32([1, 0]), (21, 1))
    embeddings[20] = [0, 1]
    _, (source,) = CopyDetector(embeddings, thumbnails(trained)).score(np.float32([[0, 1]]), thumbnails(image[None]))
    assert source == 20


def test_gain_and_offset_of_a_channel_change_nothing() -> None:
    image = (tiles()[3] // 2 + 40).astype(np.uint8)  # leaves room: nothing is clipped
    shifted = (image * np.array([0.7, 1.2, 1.0]) + np.array([30, -20, 5])).astype(np.uint8)
    (found,), _ = score(detector(image[None]), shifted[None])
    assert found > 0.99


def test_flat_images_are_no_copies_of_each_other() -> None:
    rng = np.random.default_rng(0)
    flat = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (90, 200)])
    noisy = (flat[:1] + rng.integers(0, 2, (1, 32, 32, 3))).astype(np.uint8)
    found, _ = score(detector(flat), np.concatenate([flat, noisy]))
    assert found == pytest.approx([0, 0, 0], abs=0.01)


def test_rows_do_not_depend_on_their_mates() -> None:
    found = detector(tiles()[:60])
    many = np.concatenate([tiles()] * 2)  # more than are compared at once
    scores, sources = score(found, many)
    assert len(scores) == 240
    for place in (0, 70, 130, 239):
        (alone,), (source,) = score(found, many[place : place + 1])
        assert (alone, source) == (pytest.approx(scores[place], abs=1e-5), sources[place])


def test_nothing_to_score_and_what_does_not_fit() -> None:
    found = detector(tiles()[:2])
    scores, sources = score(found, tiles()[:0])
    assert (scores.shape, sources.shape) == ((0,), (0,))
    with pytest.raises(ValueError, match="1 embeddings and 2 thumbnails"):
        found.score(blind(tiles()[:1]), thumbnails(tiles()[:2]))
    with pytest.raises(ValueError, match="0 embeddings and 0 thumbnails"):
        detector(tiles()[:0])


def test_thumbnails_are_means_of_boxes() -> None:
    images = tiles()[:3]
    error = thumbnails(images) - images.reshape(3, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(error).max() <= 1  # PIL rounds twice
    assert np.abs(error).mean() < 0.5
    assert (thumbnails(thumbnails(images)) == thumbnails(images)).all()

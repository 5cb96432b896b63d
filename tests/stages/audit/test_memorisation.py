"""What says that training images were memorised: against figures by hand, and on the demo's real images."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.data.copies import CopyDetector, copy_threshold, thumbnails
from fairsynth.demo import dataset
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.models.encoder import ClipEncoder
from fairsynth.stages.audit.memorisation import (
    DISGUISES,
    Count,
    SelfTest,
    closer_share,
    nearest_ratio,
    plant,
    self_test,
)


def column(*values: float) -> NDArray[np.float32]:
    """Rows of one number each."""
    return np.float32(values)[:, None]


def test_the_closer_share_by_hand() -> None:
    # 0.1 and 0.2 lie nearer to 0, 0.9 nearer to 1, 0.5 as near to one as to the other.
    found = closer_share(column(0.1, 0.2, 0.9, 0.5), column(0), column(1), seed=0)
    assert (found.share, found.n) == (2.5 / 4, 4)


@pytest.mark.parametrize(
    ("closer", "of", "low", "high"),
    # Clopper and Pearson's limits: in closed form for none and all, else from their tables.
    [(0, 10, 0, 1 - 0.025**0.1), (10, 10, 0.025**0.1, 1), (5, 10, 0.1871, 0.8129), (2, 20, 0.0123, 0.3170)],
)
def test_the_interval_of_the_closer_share_is_exact(closer: int, of: int, low: float, high: float) -> None:
    found = closer_share(column(*[0.0] * closer, *[1.0] * (of - closer)), column(0), column(1), seed=0)
    assert found == pytest.approx((closer / of, low, high, of), abs=1e-4)


def test_more_training_images_than_held_out_ones_are_no_memorisation() -> None:
    rng = np.random.default_rng(0)
    synthetic, train, heldout = (rng.normal(size=(n, 4)).astype(np.float32) for n in (2000, 2000, 200))
    # Without drawing down, about ten in eleven would be closer to training.
    shares = [closer_share(synthetic, train, heldout, seed).share for seed in range(5)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert closer_share(train[:50], train, heldout, 0) == closer_share(train[:50], train, heldout, 0)


def test_learnt_by_heart_and_equal_images_in_both() -> None:
    rng = np.random.default_rng(1)
    train, heldout = rng.normal(size=(2, 50, 8)).astype(np.float32)
    assert closer_share(train + np.float32(1e-3), train, heldout, 0).share == 1
    # The same images on both sides are ties, whatever rounding makes of them.
    assert closer_share(heldout, train, train[::-1], 0).share == 0.5
    for sets in ((train[:0], train, heldout), (train, train[:0], heldout), (train, train, heldout[:0])):
        with pytest.raises(ValueError, match="needs"):
            closer_share(*sets, seed=0)


def test_the_nearest_ratio_by_hand() -> None:
    train = column(0, 1, 3)
    assert nearest_ratio(column(0.25), train) == pytest.approx(0.25 / 0.75)
    assert nearest_ratio(column(2.5), train) == pytest.approx(0.5 / 1.5)
    assert nearest_ratio(column(1), train) == 0
    # 101 rows: the 1 % quantile is the second smallest.
    rows = column(1, 0.25, *[2.0] * 99)
    assert nearest_ratio(rows, train) == pytest.approx(0.25 / 0.75)
    assert nearest_ratio(column(5), column(5, 5, 7)) == 0  # a training image that is there twice, copied
    for empty in ((train[:0], train), (train, train[:1])):
        with pytest.raises(ValueError, match="needs"):
            nearest_ratio(*empty)


def test_the_threshold_lies_above_the_last_hundredth_and_has_a_floor() -> None:
    scores = np.random.default_rng(0).permutation(np.float32(range(1000)) / 1250)  # 0 to 0.7992, 791.2 at 99 %
    assert copy_threshold(scores) == pytest.approx(0.792 + 0.15 * 0.208)
    assert copy_threshold(scores / 2) == 0.75
    assert copy_threshold(np.float32([0.9])) == pytest.approx(0.915)
    with pytest.raises(ValueError, match="held-out"):
        copy_threshold(scores[:0])


def test_each_disguise_of_a_copy_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 220, 40)
    image = np.stack([np.tile(ramp, (30, 1)), np.tile(ramp[:30, None], 40), np.full((30, 40), 99)], -1).astype(np.uint8)
    image[10:14, 10:14] = rng.integers(0, 255, 3)
    made = {disguise: plant(image, disguise, seed=3) for disguise in DISGUISES}
    assert all(m.shape == image.shape and m.dtype == np.uint8 for m in made.values())
    assert (made["plain"] == image).all() and not np.shares_memory(made["plain"], image)
    assert (made["flipped"] == np.fliplr(image)).all()
    error = np.abs(made["re-encoded"].astype(int) - image)
    assert 0 < error.mean() < 10
    # Nine tenths of the ramp's range are left over its width.
    span = made["cropped"][0, -1, 0] - float(made["cropped"][0, 0, 0])
    assert span == pytest.approx(0.9 * 200, abs=8)
    for c in (0, 1):
        gain, offset = np.polyfit(image[..., c].ravel(), made["colour-shifted"][..., c].ravel(), 1)
        assert 0.7 < gain < 1.25 and abs(offset) < 45 and abs(gain - 1) + abs(offset) > 0.05


def test_copies_depend_on_the_seed_where_they_are_drawn() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for disguise in DISGUISES:
        assert (plant(image, disguise, 5) == plant(image, disguise, 5)).all()
        drawn = (plant(image, disguise, 5) != plant(image, disguise, 6)).any()
        assert drawn == (disguise in ("cropped", "colour-shifted"))


@cache
def encoder() -> ClipEncoder:
    return ClipEncoder(ModelsConfig(diffusion="demo", clip="demo", image_size=32))


def demo_images(severity: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The demo's training images, and its validation images as held-out ones."""
    images = dataset.build(severity=severity)
    train, heldout = (np.stack([i.pixels for i in images if i.split == split]) for split in (TRAIN, VALIDATION))
    return train, heldout


def built_from(train_NHW3: NDArray[np.uint8]) -> CopyDetector:
    return CopyDetector(encoder().images(train_NHW3), thumbnails(train_NHW3))


@pytest.mark.slow
@pytest.mark.parametrize("severity", [0.95, 0.99, 0.999])
def test_planted_copies_of_the_demo_are_found(severity: float) -> None:
    train, heldout = demo_images(severity)
    planted = train[np.random.default_rng(0).choice(len(train), 60, replace=False)]
    result = self_test(built_from(train), planted, heldout, encoder().images, seed=0)
    assert {disguise: count.n for disguise, count in result.planted.items()} == dict.fromkeys(DISGUISES, 60)
    assert result.detected.n == 300 and result.false_alarms.n == len(heldout) // 2 == 297
    assert result.detected.flagged >= 0.95 * 300
    assert all(count.flagged >= 0.95 * 60 for count in result.planted.values())
    assert result.false_alarms.flagged <= 0.02 * 297
    assert result.passed


@pytest.mark.slow
def test_the_self_test_fails_where_the_detector_cannot_see() -> None:
    train, heldout = demo_images(0.95)
    without = built_from(train[:300])
    blind = self_test(without, train[300:360], heldout, encoder().images, seed=0)
    assert blind.detected.share < 0.1 and not blind.passed
    # Held-out images that are in the training set: no threshold can part them from copies.
    leaking = self_test(without, train[:60], train[:300], encoder().images, seed=0)
    assert leaking.threshold > 0.99 and not leaking.passed


def test_what_passes() -> None:
    def result(found: int, planted: int, alarms: int, heldout: int) -> SelfTest:
        return SelfTest({"plain": Count(planted, planted), "cropped": Count(found, planted)}, Count(alarms, heldout), 0.92)  # fmt: skip

    assert result(90, 100, 2, 100).passed  # 190 of 200, 2 of 100: the limits themselves
    assert result(90, 100, 2, 100).detected == (190, 200)
    assert not result(89, 100, 2, 100).passed
    assert not result(100, 100, 3, 100).passed
    assert not result(100, 100, 0, 49).passed  # too few to say so
    assert not result(24, 24, 0, 100).passed


def test_the_self_test_needs_images() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    found = CopyDetector(np.ones((4, 1), np.float32), thumbnails(images))

    def encode(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ones((len(pixels), 1), np.float32)

    for trained, heldout in ((images[:0], images), (images, images[:1])):
        with pytest.raises(ValueError, match="self-test needs"):
            self_test(found, trained, heldout, encode, seed=0)

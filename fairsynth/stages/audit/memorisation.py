"""Does the synthetic set repeat its training images? Distances with a reference, and a detector put to the test.

Distances are Euclidean, between CLIP embeddings. The detector's rates are measured on planted copies and on
held-out images, which are none: a report without a passed self-test says that copies were not measured.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairsynth.data.copies import CopyDetector, copy_threshold, thumbnails

Disguise = Literal["plain", "re-encoded", "cropped", "flipped", "colour-shifted"]
DISGUISES: tuple[Disguise, ...] = get_args(Disguise)
Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_MIN_DETECTED, _MAX_FALSE_ALARMS = 0.95, 0.02  # what passes
_MIN_IMAGES = 50  # with fewer images than this the test does not pass
_ROUNDING = 1e-6  # distances that differ by less are equal
_JPEG_QUALITY, _CROP_SIDE, _GAIN, _OFFSET = 60, 0.9, 0.2, 25.0


class CloserShare(NamedTuple):
    """Share of n synthetic rows nearer to a training row than to a held-out row, with its 95 % interval."""

    share: float
    low: float
    high: float
    n: int


def closer_share(
    synthetic_ND: NDArray[np.float32], train_MD: NDArray[np.float32], heldout_KD: NDArray[np.float32], seed: int
) -> CloserShare:
    """Share of synthetic rows nearer to training than to held-out images; 0.5 is ideal, at 1 all are memorised.

    Both sets are drawn down to the smaller one's size, ties count half; the interval is exact (Clopper &
    Pearson 1934), over synthetic rows alone. Known as the DCR share. Held-out images must be of the training
    images' distribution: compare within a group. Raises ValueError if one of the three is empty.
    """
    from scipy.stats import beta

    if not (len(synthetic_ND) and len(train_MD) and len(heldout_KD)):
        raise ValueError("the share needs synthetic, training and held-out images")
    rng, size = np.random.default_rng(seed), min(len(train_MD), len(heldout_KD))
    to_train_N, to_heldout_N = (
        _distances(synthetic_ND, rows[rng.choice(len(rows), size, replace=False)], 1)[:, 0]
        for rows in (train_MD, heldout_KD)
    )
    difference_N = to_heldout_N - to_train_N
    ties_N = np.abs(difference_N) < _ROUNDING
    n, closer = len(synthetic_ND), float((~ties_N & (difference_N > 0)).sum() + 0.5 * ties_N.sum())
    low = float(beta.ppf(0.025, closer, n - closer + 1)) if closer > 0 else 0.0
    high = float(beta.ppf(0.975, closer + 1, n - closer)) if closer < n else 1.0
    return CloserShare(closer / n, low, high, n)


def nearest_ratio(rows_ND: NDArray[np.float32], train_MD: NDArray[np.float32]) -> float:
    """The 1 % quantile over rows of nearest / second nearest distance to a training row (NNDR), in [0, 1].

    Small: some rows have one training image much nearer than any other. The reference is the same figure of
    held-out real rows. A row equal to a training row counts 0. Raises ValueError for no row or M < 2.
    """
    if not len(rows_ND) or len(train_MD) < 2:
        raise ValueError("the ratio needs a row, and two training rows to compare it with")
    nearest_N, second_N = _distances(rows_ND, train_MD, 2).T
    ratios_N = np.where(nearest_N < _ROUNDING, 0.0, nearest_N / np.maximum(second_N, _ROUNDING))
    return float(np.quantile(ratios_N, 0.01))


def _distances(rows_ND: NDArray[np.float32], to_MD: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Distances (N, k) to the k nearest rows, ascending."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(to_MD.astype(np.float64))
    return index.kneighbors(rows_ND.astype(np.float64))[0]


def plant(pixels_HW3: NDArray[np.uint8], disguise: Disguise, seed: int) -> NDArray[np.uint8]:
    """A copy of an image, same shape, disguised as ``disguise`` says.

    ``re-encoded``: JPEG of quality 60. ``cropped``: 90 % of each side, at a place by the seed, scaled up again.
    ``flipped``: left to right. ``colour-shifted``: each channel times 0.8 to 1.2 and up to 25 levels brighter or
    darker, by the seed.
    """
    height, width = pixels_HW3.shape[:2]
    rng, image = np.random.default_rng(seed), Image.fromarray(pixels_HW3)
    if disguise == "re-encoded":
        image.save(file := io.BytesIO(), "JPEG", quality=_JPEG_QUALITY)
        return np.array(Image.open(file).convert("RGB"))
    if disguise == "cropped":
        x, y = rng.uniform(0, 1 - _CROP_SIDE, 2) * (width, height)
        box = (x, y, x + _CROP_SIDE * width, y + _CROP_SIDE * height)
        return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
    if disguise == "flipped":
        return pixels_HW3[:, ::-1].copy()
    if disguise == "colour-shifted":
        shifted = pixels_HW3 * rng.uniform(1 - _GAIN, 1 + _GAIN, 3) + rng.uniform(-_OFFSET, _OFFSET, 3)
        return np.clip(shifted + 0.5, 0, 255).astype(np.uint8)
    return pixels_HW3.copy()


class Count(NamedTuple):
    """Number of images flagged as copies, of n."""

    flagged: int
    n: int

    @property
    def share(self) -> float:
        """flagged / n."""
        return self.flagged / self.n


@dataclass(frozen=True)
class SelfTest:
    """The detector's hits: on planted copies, by disguise, and on held-out images, where they are false alarms."""

    planted: dict[Disguise, Count]
    false_alarms: Count
    threshold: float

    @property
    def detected(self) -> Count:
        """Planted copies of all disguises."""
        return Count(sum(c.flagged for c in self.planted.values()), sum(c.n for c in self.planted.values()))

    @property
    def passed(self) -> bool:
        """At least 95 % of the copies found and at most 2 % false alarms, each among 50 images or more."""
        enough = min(self.detected.n, self.false_alarms.n) >= _MIN_IMAGES
        return enough and self.detected.share >= _MIN_DETECTED and self.false_alarms.share <= _MAX_FALSE_ALARMS


def self_test(
    detector: CopyDetector,
    training_KHW3: NDArray[np.uint8],
    heldout_NHW3: NDArray[np.uint8],
    encode: Encode,
    seed: int,
) -> SelfTest:
    """Plant copies of some training images, each in every disguise, and count what the detector finds.

    ``training_KHW3``: K images (uint8) of those that the detector was built from. ``heldout_NHW3``: real images of no
    training set. One half of the held-out images, drawn by the seed, sets the threshold,
    the other half counts the false alarms. Raises ValueError for K = 0 or N < 2.
    """
    if not len(training_KHW3) or len(heldout_NHW3) < 2:
        raise ValueError("the self-test needs a training image and two held-out ones")

    def scored(pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        return detector.score(encode(pixels_NHW3), thumbnails(pixels_NHW3))[0]

    heldout_N = np.random.default_rng(seed).permutation(scored(heldout_NHW3))
    half = len(heldout_N) // 2
    threshold = copy_threshold(heldout_N[:half])

    def flagged(scores_N: NDArray[np.float32]) -> Count:
        return Count(int((scores_N > threshold).sum()), len(scores_N))

    planted = {
        disguise: flagged(scored(np.stack([plant(p, disguise, seed + i) for i, p in enumerate(training_KHW3)])))
        for disguise in DISGUISES
    }
    return SelfTest(planted, flagged(heldout_N[half:]), threshold)

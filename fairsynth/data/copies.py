"""Near copies of training images: found though compressed again, cropped, mirrored or shifted in colour.

Coarse descriptors and CLIP name a few training images for each image; a search over mirroring, crop and
place then compares the thumbnails pixel by pixel. The comparison is normalised correlation (zero-mean NCC,
Lewis 1995), channel by channel: the mean of the channels, each weighing as much as it varies, so that gain
and offset of a channel change little and a dark one does not count. Thumbnails lose most of their slow shading
first: any two images of like content share that, only a copy shares the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from fairsynth.data.vectors import byte_rows

SIDE = 32
THUMBNAIL_BYTES = SIDE * SIDE * 3
# A copy may show as little as 28/32 of the training image's side: crops of 10 % and some more.
_SIZES = (32, 31, 30, 29, 28)
_WINDOWS = tuple((size, y, x) for size in _SIZES for y in range(SIDE - size + 1) for x in range(SIDE - size + 1))
# Windows of the coarse search, as (size, y, x): the whole image, and crops at most a pixel from any of 10 %.
_COARSE_WINDOWS = ((32, 0, 0), *((29, y, x) for y in (0, 2, 3) for x in (0, 2, 3)))
_COARSE_SIDE = 8
_BY_PIXELS, _BY_EMBEDDING = 8, 3  # candidates that are compared in full, for each of mirrored and not
_SHADING_SIGMA, _SHADING_SHARE = 4.0, 0.8
# Deviation, in levels of 255, below which an image is flat: two flat images are no copies of each other.
_FLAT = 0.5
# What a flat window adds to the product of a template's and a window's length.
_FLAT_W = np.array([(_FLAT * size) ** 2 for size, _, _ in _WINDOWS], np.float32)
# Images searched for at once, and of them those compared pixel by pixel: these bound the memory, to about 15 MB.
_CHUNK, _AT_ONCE = 128, 16


def thumbnails(pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) as the detector compares them: uint8 (N, 32, 32, 3), mean of each box of pixels."""
    small = [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BOX) for p in pixels_NHW3]
    return np.stack([np.asarray(s) for s in small]) if small else np.zeros((0, SIDE, SIDE, 3), np.uint8)


def unpacked(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Thumbnails from an Arrow column of fixed size binary, uint8 (N, 32, 32, 3): a view if they are contiguous."""
    return byte_rows(column).reshape(-1, SIDE, SIDE, 3)


class CopyDetector:
    """Finds the training image that an image most resembles as a copy.

    Built from the training images' unit vectors float32 (N, D) and ``thumbnails`` uint8 (N, 32, 32, 3).
    Holds about 16 KB for each training image. Raises ValueError if their lengths differ or are 0.
    """

    def __init__(self, embeddings_ND: NDArray[np.float32], thumbnails_N: NDArray[np.uint8]) -> None:
        if len(embeddings_ND) != len(thumbnails_N) or not len(thumbnails_N):
            raise ValueError(f"{len(embeddings_ND)} embeddings and {len(thumbnails_N)} thumbnails of training images")
        self._embeddings_ND = embeddings_ND
        pieces = [_planes(thumbnails_N[i : i + _CHUNK]) for i in range(0, len(thumbnails_N), _CHUNK)]
        self._planes_N3HW = np.concatenate(pieces)
        # Piece by piece, for the integral images are four times as large as the planes.
        self._norms_NW3 = np.concatenate([_window_norms(piece_3HW) for piece_3HW in pieces])
        grey_NHW = self._planes_N3HW.mean(1)
        self._coarse_WNF = np.stack([_coarse(grey_NHW, *window) for window in _COARSE_WINDOWS])

    def score(
        self, embeddings_MD: NDArray[np.float32], thumbnails_M: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Best correlation of each of M images with a training image, float32 (M,), at most 1, and that image's index,
        int64 (M,).
        """
        if len(embeddings_MD) != len(thumbnails_M):
            raise ValueError(f"{len(embeddings_MD)} embeddings and {len(thumbnails_M)} thumbnails to be scored")
        parts = [self._score(embeddings_MD[i : i + _CHUNK], thumbnails_M[i : i + _CHUNK])
                 for i in range(0, len(thumbnails_M), _CHUNK)]  # fmt: skip
        if not parts:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        scores, indices = zip(*parts, strict=True)
        return np.concatenate(scores), np.concatenate(indices)

    def _score(
        self, embeddings_MD: NDArray[np.float32], thumbnails_M: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        seen_M3HW = _planes(thumbnails_M)
        by_embedding_MK = _top(embeddings_MD @ self._embeddings_ND.T, _BY_EMBEDDING)
        scores, indices = [], []
        for planes_M3HW in (seen_M3HW, seen_M3HW[..., ::-1]):
            candidates_MK = np.hstack([self._by_pixels(planes_M3HW.mean(1)), by_embedding_MK])
            scores.append(self._compare(planes_M3HW, candidates_MK))
            indices.append(candidates_MK)
        both_MK, indices_MK = np.hstack(scores), np.hstack(indices)
        best_M1 = both_MK.argmax(1)[:, None]
        return np.take_along_axis(both_MK, best_M1, 1)[:, 0], np.take_along_axis(indices_MK, best_M1, 1)[:, 0]

    def _by_pixels(self, grey_MHW: NDArray[np.float32]) -> NDArray[np.int64]:
        """Training images (M, K) with the windows most like the image at 8 x 8."""
        seen_MF = _coarse(grey_MHW, SIDE, 0, 0)
        best_MN = seen_MF @ self._coarse_WNF[0].T
        for window_NF in self._coarse_WNF[1:]:
            np.maximum(best_MN, seen_MF @ window_NF.T, out=best_MN)
        return _top(best_MN, _BY_PIXELS)

    def _compare(self, planes_M3HW: NDArray[np.float32], candidates_MK: NDArray[np.int64]) -> NDArray[np.float32]:
        """Best correlation (M, K) of each image with each of its candidates, over all windows."""
        best = list[NDArray[np.float32]]()
        for start in range(0, len(planes_M3HW), _AT_ONCE):
            some_MK = candidates_MK[start : start + _AT_ONCE]
            templates_MWF, lengths_MW3 = _templates(planes_M3HW[start : start + _AT_ONCE])
            products_MKW = self._planes_N3HW[some_MK].reshape(*some_MK.shape, -1) @ templates_MWF.transpose(0, 2, 1)
            perfect_MKW = (lengths_MW3[:, None] * self._norms_NW3[some_MK]).sum(3)
            best.append((products_MKW / (perfect_MKW + _FLAT_W)).max(2))
        return np.concatenate(best)


def _planes(thumbnails_N: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Channels first, float32 (N, 3, 32, 32), most of the slow shading taken off."""
    planes = thumbnails_N.transpose(0, 3, 1, 2).astype(np.float32)
    shading = gaussian_filter(planes, (0, 0, _SHADING_SIGMA, _SHADING_SIGMA), mode="nearest")
    return np.ascontiguousarray(planes - _SHADING_SHARE * shading)


def _windows_of(size: int) -> Iterator[tuple[int, int, int]]:
    return ((w, y, x) for w, (s, y, x) in enumerate(_WINDOWS) if s == size)


def _templates(planes_M3HW: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The images as each window would show them, and nothing around it: (M, windows, 3 * 32 * 32).

    One matrix product compares such a template with a whole training image, which costs less than half of cutting its windows out.
    Each channel has mean 0; their lengths: (M, windows, 3).
    """
    templates_MW3HW = np.zeros((len(planes_M3HW), len(_WINDOWS), 3, SIDE, SIDE), np.float32)
    lengths_MW3 = np.empty((len(planes_M3HW), len(_WINDOWS), 3), np.float32)
    for size in _SIZES:
        template_M3SS = _template(planes_M3HW, size)
        length_M3 = np.linalg.norm(template_M3SS, axis=(2, 3))
        for w, y, x in _windows_of(size):
            templates_MW3HW[:, w, :, y : y + size, x : x + size] = template_M3SS
            lengths_MW3[:, w] = length_M3
    return templates_MW3HW.reshape(len(planes_M3HW), len(_WINDOWS), -1), lengths_MW3


def _template(planes_M3HW: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The images (M, 3, size, size) scaled down, each channel with mean 0."""
    shrink_SH = _shrinking(size)
    small = shrink_SH @ planes_M3HW @ shrink_SH.T
    return np.asarray(small - small.mean((2, 3), keepdims=True))


@cache
def _shrinking(size: int) -> NDArray[np.float32]:
    """PIL's bicubic reduction of 32 pixels to ``size``, as a matrix (size, 32): what it does to unit vectors."""
    return np.asarray(Image.fromarray(np.eye(SIDE, dtype=np.float32)).resize((SIDE, size), Image.Resampling.BICUBIC))


def _window_norms(planes_N3HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Length (N, windows, 3) of each channel of each window about its mean, by integral images."""
    sums, squares = (_integral(planes) for planes in (planes_N3HW, np.square(planes_N3HW, dtype=np.float64)))
    norms = np.empty((len(planes_N3HW), len(_WINDOWS), 3), np.float32)
    for w, (size, y, x) in enumerate(_WINDOWS):
        total, square = (
            t[..., y + size, x + size] - t[..., y, x + size] - t[..., y + size, x] + t[..., y, x]
            for t in (sums, squares)
        )
        norms[:, w] = np.sqrt(np.maximum(square - total**2 / size**2, 0))
    return norms


def _integral(planes_N3HW: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.pad(planes_N3HW.cumsum(2, dtype=np.float64).cumsum(3), ((0, 0), (0, 0), (1, 0), (1, 0)))


def _coarse(grey_NHW: NDArray[np.float32], size: int, y: int, x: int) -> NDArray[np.float32]:
    """A window at 8 x 8, mean 0, length 1: float32 (N, 64)."""
    rows, columns = _box(size, y), _box(size, x)
    small = (rows @ grey_NHW @ columns.T).reshape(len(grey_NHW), -1)
    small -= small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


@cache
def _box(size: int, start: int) -> NDArray[np.float32]:
    """Matrix (8, 32) that averages ``size`` pixels from ``start`` on into 8 boxes."""
    edges = start + np.arange(_COARSE_SIDE + 1)[:, None] * size / _COARSE_SIDE
    covered = np.clip(edges - np.arange(SIDE), 0, 1)
    return (np.diff(covered, axis=0) * _COARSE_SIDE / size).astype(np.float32)


def _top(similarities_MN: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns (M, min(k, N)) of the k largest of each row, in no order."""
    k = min(k, similarities_MN.shape[1])
    return np.argpartition(similarities_MN, -k, axis=1)[:, -k:]


# A lower score is never a copy, whatever the held-out images say.
FLOOR = 0.75


_EXCEEDING = 0.01  # share of held-out images that may exceed the start of the threshold


# From there the threshold keeps this share of the way to 1: the last hundredth of some hundred images is
# only roughly known, and nearly all copies score well above.
_HEADROOM = 0.15


def copy_threshold(heldout_scores_N: NDArray[np.float32]) -> float:
    """The detector's score above which an image counts as a copy, from scores of held-out images (no copies).

    The score that at most 1 % of them exceed, and 15 % of the way from there to 1; never below ``FLOOR``.
    Raises ValueError for no scores.
    """
    if not len(heldout_scores_N):
        raise ValueError("a threshold needs scores of held-out images")
    reached = float(np.quantile(heldout_scores_N, 1 - _EXCEEDING, method="higher"))
    return max(FLOOR, reached + _HEADROOM * (1 - reached))

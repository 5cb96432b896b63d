"""Near duplicates: images that look the same though their files differ (scaled, compressed again, slightly edited).

Candidates have perceptual hashes (imagehash's pHash, 64 bits) within ``HASH_BITS``; they count only if
their looks (8 x 8 RGB) are alike too, because the hashes of flat images mean little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import faiss
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# pHash has as many ones as zeros, so distances are even.
HASH_BITS = 4
HASH_BYTES = 8
_SIDE = 8
LOOK_BYTES = _SIDE * _SIDE * 3
# Mean absolute difference of looks, in levels of 255, up to which two images look alike.
_ALIKE = 6.0
# With 5 tables of 12 bits, two hashes that differ in at most 4 bits share at least one table's key.
_TABLES, _BITS = 5, 12
# Sets of equal hashes up to this size are compared pair by pair.
_ALL_PAIRS = 32
# Pairs, and hashes, per call: bounds the memory.
_CHUNK, _QUERIES = 65_536, 65_536


def perceptual_hash(image: Image.Image) -> bytes:
    """The 64-bit pHash of an RGB image."""
    return np.packbits(imagehash.phash(image).hash.ravel()).tobytes()


def look(image: Image.Image) -> bytes:
    """The image as 8 x 8 RGB."""
    return image.resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()


def near_duplicates(hashes_N8: NDArray[np.uint8], looks_NB: NDArray[np.uint8]) -> list[list[int]]:
    """Sets of images that look alike, each sorted, the sets by their first image; single images are left out.

    Rows are the bytes of ``perceptual_hash`` and of ``look``.
    """
    if not len(hashes_N8):
        return []
    pairs = np.concatenate([_alike(looks_NB, part) for part in _candidates(hashes_N8)] or [np.zeros((0, 2), np.int64)])
    if not len(pairs):
        return []
    n, (rows, columns) = len(hashes_N8), pairs.T
    _, component = connected_components(coo_matrix((np.ones(len(pairs)), (rows, columns)), (n, n)), directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for index in np.unique(pairs).tolist():
        members[int(component[index])].append(index)
    return sorted(members.values())


def spread_out(hashes_N8: NDArray[np.uint8], looks_NB: NDArray[np.uint8]) -> list[int]:
    """Places of the images to keep, from images in order of preference: each looks like none kept before it."""
    bits, looks = np.unpackbits(hashes_N8, axis=1), looks_NB.astype(np.int16)
    kept: list[int] = []
    for place in range(len(bits)):
        close = (bits[kept] != bits[place]).sum(1) <= HASH_BITS
        if not (close & (np.abs(looks[kept] - looks[place]).mean(1) <= _ALIKE)).any():
            kept.append(place)
    return kept


def _alike(looks_NB: NDArray[np.uint8], pairs_P2: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs whose looks are alike."""
    parts = (pairs_P2[start : start + _CHUNK] for start in range(0, len(pairs_P2), _CHUNK))
    kept = [part[_distance(looks_NB, part) <= _ALIKE] for part in parts]
    return np.concatenate(kept) if kept else pairs_P2


def _distance(looks_NB: NDArray[np.uint8], pairs_P2: NDArray[np.int64]) -> NDArray[np.float64]:
    first, second = (looks_NB[column].astype(np.int16) for column in pairs_P2.T)
    return np.abs(first - second).mean(1)  # type: ignore[no-any-return]


def _candidates(hashes_N8: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    """Pairs of images with close hashes; in very large sets of equal hashes only those with the first."""
    codes = np.ascontiguousarray(hashes_N8).view(np.uint64).ravel()
    distinct, inverse = np.unique(codes, return_inverse=True)
    # Places by hash, and among those of equal hashes in their order.
    places = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(distinct)))
    starts = np.concatenate([[0], ends[:-1]])
    for start, end in np.stack([starts, ends], 1)[ends - starts > 1].tolist():
        yield _pairs_within(places[start:end])
    yield from _pairs_between(distinct, places, starts, ends)


def _pairs_within(same: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(same) > _ALL_PAIRS:
        return np.stack([np.full(len(same) - 1, same[0]), same[1:]], 1)
    return same[np.stack(np.triu_indices(len(same), 1), 1)]


def _pairs_between(
    distinct: NDArray[np.uint64], places: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Pairs of images whose hashes are close but not equal."""
    codes = distinct.view(np.uint8).reshape(len(distinct), -1)
    index = faiss.IndexBinaryMultiHash(codes.shape[1] * 8, _TABLES, _BITS)
    index.add(codes)
    for begin in range(0, len(codes), _QUERIES):
        # faiss leaves out the distance that equals the radius.
        limits, _, neighbours = index.range_search(codes[begin : begin + _QUERIES], HASH_BITS + 1)
        counts = np.diff(limits).astype(np.int64)
        near = np.stack([np.repeat(np.arange(len(counts)) + begin, counts), neighbours], 1)
        near = near[near[:, 0] < near[:, 1]]
        single = (ends - starts)[near].max(1) == 1
        yield places[starts[near[single]]]
        for i, j in near[~single].tolist():
            first, second = (places[starts[k] : ends[k]][:_ALL_PAIRS] for k in (i, j))
            yield np.stack([np.repeat(first, len(second)), np.tile(second, len(first))], 1)

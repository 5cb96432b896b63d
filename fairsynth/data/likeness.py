"""Near copies: images that show the same though their files differ (scaled, compressed again, slightly edited).

Candidates have perceptual hashes (imagehash's pHash, 64 bits) within ``HASH_BITS``; they count only if
their thumbnails look alike too, for flat images have hashes that mean little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import faiss
import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# pHash has as many ones as zeros, so distances are even.
HASH_BITS = 4
_SIDE = 8
THUMBNAIL_BYTES = _SIDE * _SIDE * 3
# Mean absolute difference of thumbnails, in levels of 255, up to which two images look alike.
_ALIKE = 6.0
# With 5 tables of 12 bits, two hashes that differ in at most 4 bits share at least one table's key.
_TABLES, _BITS = 5, 12
# Sets of equal hashes up to this size are compared pair by pair.
_ALL_PAIRS = 32


def perceptual_hash(image: Image.Image) -> bytes:
    """The 64-bit pHash of an RGB image."""
    return np.packbits(imagehash.phash(image).hash.ravel()).tobytes()


def thumbnail(image: Image.Image) -> bytes:
    """The image as 8 x 8 RGB."""
    return image.resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()


def near_copies(hashes_N: Sequence[bytes], thumbnails_N: Sequence[bytes]) -> list[list[int]]:
    """Sets of images that look alike, each sorted, the sets by their first image; singles are left out."""
    if not hashes_N:
        return []
    looks = np.frombuffer(b"".join(thumbnails_N), np.uint8).reshape(len(thumbnails_N), -1).astype(np.int16)
    pairs = [(a, b) for a, b in _candidates(hashes_N) if np.abs(looks[a] - looks[b]).mean() <= _ALIKE]
    if not pairs:
        return []
    rows, columns = np.array(pairs).T
    n = len(hashes_N)
    _, component = connected_components(coo_matrix((np.ones(len(pairs)), (rows, columns)), (n, n)), directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for index in sorted({*rows.tolist(), *columns.tolist()}):
        members[int(component[index])].append(index)
    return sorted(members.values())


def spread_out(hashes_N: Sequence[bytes], thumbnails_N: Sequence[bytes]) -> list[int]:
    """Of images in an order of preference those that look like none before them that is kept: their places."""
    if not hashes_N:
        return []
    bits = np.unpackbits(np.frombuffer(b"".join(hashes_N), np.uint8).reshape(len(hashes_N), -1), axis=1)
    looks = np.frombuffer(b"".join(thumbnails_N), np.uint8).reshape(len(thumbnails_N), -1).astype(np.int16)
    kept: list[int] = []
    for place in range(len(hashes_N)):
        close = (bits[kept] != bits[place]).sum(1) <= HASH_BITS
        if not (close & (np.abs(looks[kept] - looks[place]).mean(1) <= _ALIKE)).any():
            kept.append(place)
    return kept


def _candidates(hashes_N: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Pairs of images with close hashes; in very large sets of equal hashes only those with the first."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for place, value in enumerate(hashes_N):
        same[value].append(place)
    for members in same.values():
        if len(members) <= _ALL_PAIRS:
            yield from combinations(members, 2)
        else:
            yield from ((members[0], other) for other in members[1:])
    distinct = list(same)
    codes = np.frombuffer(b"".join(distinct), np.uint8).reshape(len(distinct), -1)
    index = faiss.IndexBinaryMultiHash(codes.shape[1] * 8, _TABLES, _BITS)
    index.add(codes)
    # faiss leaves out the distance that equals the radius.
    limits, _, found = index.range_search(codes, HASH_BITS + 1)
    for i in range(len(distinct)):
        for j in found[limits[i] : limits[i + 1]]:
            if i < j:
                yield from product(same[distinct[i]][:_ALL_PAIRS], same[distinct[int(j)]][:_ALL_PAIRS])

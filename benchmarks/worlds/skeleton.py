"""Strokes thinned to lines of one pixel: T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns (1984)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def skeleton(ink_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The skeleton of binary ink, whose border is taken as empty."""
    left = ink_HW
    while True:
        before = left
        for half in (0, 1):
            left = left & ~_removable(left, half)
        if (left == before).all():
            return left


def _removable(ink_HW: NDArray[np.bool_], half: int) -> NDArray[np.bool_]:
    """The contour pixels of one half (0: south and east, 1: north and west) that hold no line together."""
    padded = np.pad(ink_HW, 1)
    height, width = ink_HW.shape
    ring = np.stack([padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in _RING])
    north, east, south, west = ring[::2]
    neighbours, starts = ring.sum(0), (~ring & np.roll(ring, -1, 0)).sum(0)
    if half == 0:
        outside = ~(north & east & south) & ~(east & south & west)
    else:
        outside = ~(north & east & west) & ~(north & south & west)
    return ink_HW & (neighbours >= 2) & (neighbours <= 6) & (starts == 1) & outside

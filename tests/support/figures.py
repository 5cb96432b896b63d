"""Sets of made-up vectors whose figures are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.groups import Group
from fairsynth.stages.audit.figures import Images

A, B, C = Group("low", "building"), Group("high", "building"), Group("low", "flower")
WIDTH = 16
Vectors = NDArray[np.float32]


def units(rows: NDArray[Any]) -> Vectors:
    """Rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int, seed: int, shift: float = 0.0, spread: float = 0.3) -> Vectors:
    """Unit vectors about one direction; the shift moves them in another one."""
    rows = spread * np.random.default_rng(seed).normal(size=(n, WIDTH))
    rows[:, 0] += 1
    rows[:, 1] += shift
    return units(rows)


def images(vectors: Vectors, groups: Sequence[Group], seen: Sequence[Group] | None = None) -> Images:
    """Images that are seen as what they should be, or as said."""
    return Images(vectors, groups, seen or groups, groups)


def world(shift: float) -> tuple[Images, Images]:
    """Synthetic and real images of A and B; those of B lie beside the real ones by the shift."""
    synthetic = np.concatenate([drawn(100, 0), drawn(100, 1, shift)])
    groups = [A] * 100 + [B] * 100
    return images(synthetic, groups), images(drawn(200, 2), groups)

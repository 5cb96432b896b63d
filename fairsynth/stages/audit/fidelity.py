"""How close synthetic images come to real ones: distances, precision and recall, density and coverage.

All figures are of embeddings (CLIP's: float32, rows of length 1), so they compare with each other, not with
figures of Inception features. Read each beside that of held-out real images, which a perfect generator would reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1024


def frechet_distance(a_ND: NDArray[np.float32], b_MD: NDArray[np.float32]) -> float:
    """Squared Fréchet distance of two normal distributions fitted to the rows (FID's formula, Heusel et al. 2017).

    |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^1/2), with covariances over n - 1. It is biased upwards for few
    rows: compare only sets of equal size. Raises ValueError with fewer than 2 rows on a side.
    """
    _at_least_two(a_ND, b_MD)
    means, factors = [], []
    for rows in (a_ND.astype(np.float64), b_MD.astype(np.float64)):
        means.append(rows.mean(0))
        factors.append(np.linalg.qr(rows - means[-1], mode="r") / np.sqrt(len(rows) - 1))
    # S = R'R, so the eigenvalues of S_a S_b are the squares of the singular values of R_a R_b': never negative,
    # however few the rows.
    a, b = factors
    difference_D = means[0] - means[1]
    crossed = float(np.linalg.norm(a @ b.T, "nuc"))
    return max(0.0, float(difference_D @ difference_D + (a**2).sum() + (b**2).sum()) - 2 * crossed)


def kernel_distance(a_ND: NDArray[np.float32], b_MD: NDArray[np.float32]) -> float:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 over all rows (KID, Binkowski et al. 2018).

    About 0, and as often below it, for two samples of one distribution. Raises ValueError with fewer than 2 rows
    on a side.
    """
    _at_least_two(a_ND, b_MD)
    a, b = a_ND.astype(np.float64), b_MD.astype(np.float64)
    n, m = len(a), len(b)
    # A row's kernel with itself is left out: that makes the estimate unbiased.
    of_a = (_kernel_sum(a, a) - _kernel((a**2).sum(1), a.shape[1]).sum()) / (n * (n - 1))
    of_b = (_kernel_sum(b, b) - _kernel((b**2).sum(1), b.shape[1]).sum()) / (m * (m - 1))
    return float(of_a + of_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(x_ND: NDArray[np.float64], y_MD: NDArray[np.float64]) -> float:
    parts = (x_ND[i : i + _CHUNK] @ y_MD.T for i in range(0, len(x_ND), _CHUNK))
    return sum(float(_kernel(part, x_ND.shape[1]).sum()) for part in parts)


def _kernel(products: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    return (products / dimensions + 1) ** 3


def _at_least_two(a_ND: NDArray[np.float32], b_MD: NDArray[np.float32]) -> None:
    if min(len(a_ND), len(b_MD)) < 2:
        raise ValueError(f"a distance of {len(a_ND)} from {len(b_MD)} rows: two on each side are needed")


class Prdc(NamedTuple):
    """Precision and recall, density and coverage, measured with balls that reach to the k-th neighbour."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def prdc(real_ND: NDArray[np.float32], synthetic_MD: NDArray[np.float32], k: int = 5) -> Prdc | None:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Around each row lies an open ball with the distance of its k-th neighbour in its own set, itself not counted, as
    radius.
    ``precision``: share of synthetic rows in any real ball. ``recall``: share of real rows in any synthetic ball.
    ``density``: mean number of real balls around a synthetic row, over k (may exceed 1). ``coverage``: share of
    real balls with a synthetic row inside. Where a set has no k neighbours, k is lowered to what both have, and
    the result says so; None if a set has fewer than 2 rows. Compare only figures of equal k and equal sizes.
    """
    k = min(k, len(real_ND) - 1, len(synthetic_MD) - 1)
    if k < 1:
        return None
    real, synthetic = real_ND.astype(np.float64), synthetic_MD.astype(np.float64)
    radii_N, radii_M = _radii(real, k), _radii(synthetic, k)
    balls_M = []  # real balls around each synthetic row
    recalled_N, nearest_N = np.zeros(len(real), bool), np.full(len(real), np.inf)
    for rows, distances_CN in _distances(synthetic, real):
        balls_M.append((distances_CN < radii_N).sum(1))
        recalled_N |= (distances_CN < radii_M[rows, None]).any(0)
        np.minimum(nearest_N, distances_CN.min(0), out=nearest_N)
    balls = np.concatenate(balls_M)
    return Prdc(
        float((balls > 0).mean()),
        float(recalled_N.mean()),
        float(balls.mean() / k),
        float((nearest_N < radii_N).mean()),
        k,
    )


def _radii(rows_ND: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Distance (N,) of each row's k-th neighbour; the nearest of all is the row itself."""
    return np.concatenate([np.partition(part, k, axis=1)[:, k] for _, part in _distances(rows_ND, rows_ND)])


def _distances(x_ND: NDArray[np.float64], y_MD: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Euclidean distances, some rows of x at a time: which rows, and (C, M)."""
    from sklearn.metrics import pairwise_distances_chunked

    start = 0
    for part in pairwise_distances_chunked(x_ND, y_MD, working_memory=64):
        yield slice(start, start + len(part)), part
        start += len(part)

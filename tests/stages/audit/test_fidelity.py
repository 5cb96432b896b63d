"""Figures of fidelity against other computations of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from fairsynth.stages.audit.fidelity import Prdc, frechet_distance, kernel_distance, prdc

Rows = NDArray[np.float32]


def normal(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> Rows:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


def test_the_frechet_distance_is_its_formula() -> None:
    a, b = normal(0, 60, 5), normal(1, 40, 5, 1.5, 0.3) @ normal(2, 5, 5)
    crossed = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * crossed)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_the_frechet_distance_by_hand() -> None:
    # One dimension: (difference of means)^2 + (difference of deviations)^2; deviations sqrt 2 and 3 sqrt 2.
    assert frechet_distance(np.float32([[0], [2]]), np.float32([[4], [10]])) == pytest.approx(6**2 + 8)
    # Two rows each, along different axes of 50: the product of the covariances is 0, their traces are 2 and 8.
    a, b = np.zeros((2, 50), np.float32), np.zeros((2, 50), np.float32)
    a[:, 0], b[:, 1] = (-1, 1), (-2, 2)
    assert frechet_distance(a, b) == pytest.approx(2 + 8)


def test_few_rows_in_many_dimensions_give_no_rubbish() -> None:
    rows = normal(0, 8, 300)
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(rows, rows + np.float32(0.1)) == pytest.approx(300 * 0.01, rel=1e-3)


def test_the_kernel_distance_is_its_sum() -> None:
    a, b = normal(0, 7, 3), normal(1, 5, 3, shift=0.5)

    def k(x: Rows, y: Rows) -> float:
        return float((sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / 3 + 1) ** 3)

    within = [sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1)) for x in (a, b)]  # fmt: skip
    between = sum(k(x, y) for x in a for y in b) / 35
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-6)


def test_the_kernel_distance_has_no_bias_and_takes_many_rows() -> None:
    found = [kernel_distance(normal(seed, 30, 4), normal(seed + 1000, 50, 4)) for seed in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)
    a, b = normal(0, 2500, 4), normal(1, 1100, 4)  # more than one piece
    kernels = [(x.astype(float) @ y.T.astype(float) / 4 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    n, m = len(a), len(b)
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    assert kernel_distance(a, b) == pytest.approx(sum(own) - 2 * kernels[2].sum() / (n * m), rel=1e-6)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_a_distance_needs_two_rows(distance: Callable[[Rows, Rows], float]) -> None:
    for a, b in ((1, 5), (5, 1), (0, 5)):
        with pytest.raises(ValueError, match="two on each side"):
            distance(normal(0, a, 3), normal(1, b, 3))


def prdc_by_loops(real: Rows, synthetic: Rows, k: int) -> Prdc:
    """The definitions, point by point."""

    def far(x: Rows, y: Rows) -> float:
        return float(np.sqrt(((x.astype(float) - y.astype(float)) ** 2).sum()))

    def reach(rows: Rows) -> list[float]:
        return [sorted(far(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1] for i in range(len(rows))]

    inside = [[far(r, s) < ball for r, ball in zip(real, reach(real), strict=True)] for s in synthetic]
    recalled = [any(far(r, s) < ball for s, ball in zip(synthetic, reach(synthetic), strict=True)) for r in real]
    covered = [any(row[i] for row in inside) for i in range(len(real))]
    density = sum(sum(row) for row in inside) / (k * len(synthetic))
    return Prdc(float(np.mean([any(row) for row in inside])), float(np.mean(recalled)), density, float(np.mean(covered)), k)  # fmt: skip


@pytest.mark.parametrize(("n", "m", "k", "shift"), [(30, 25, 5, 0.0), (20, 40, 3, 1.0), (12, 9, 1, 0.5)])
def test_prdc_is_what_its_definitions_say(n: int, m: int, k: int, shift: float) -> None:
    real, synthetic = normal(n, n, 3), normal(m + 1, m, 3, 0.8, shift)
    expected = prdc_by_loops(real, synthetic, k)
    assert prdc(real, synthetic, k) == pytest.approx(expected)
    assert all(figure > 0 for figure in expected)


def test_prdc_by_hand() -> None:
    # Real balls of k = 1 on a line: 0 and 1 reach 1 far, 10 reaches 9 far. 3 is in the last alone, 20 in none;
    # both synthetic balls reach 17 far.
    real, synthetic = np.float32([[0], [1], [10]]), np.float32([[3], [20]])
    assert prdc(real, synthetic, 1) == pytest.approx((1 / 2, 1, 1 / 2, 1 / 3, 1))


@pytest.mark.slow
def test_many_rows_come_in_pieces_with_the_same_result() -> None:
    real, synthetic = normal(0, 3100, 2), normal(1, 3200, 2, 0.7, 0.4)
    found = prdc(real, synthetic, 5)
    between = np.linalg.norm(real[:, None].astype(float) - synthetic[None], axis=2)
    balls = [np.sort(np.linalg.norm(x[:, None].astype(float) - x[None], axis=2), 1)[:, 5] for x in (real, synthetic)]
    inside = between < balls[0][:, None]
    expected = (inside.any(0).mean(), (between < balls[1]).any(1).mean(), inside.sum() / 5 / 3200, inside.any(1).mean())
    assert found == pytest.approx((*expected, 5))


def test_fewer_neighbours_where_rows_are_few() -> None:
    real, synthetic = normal(0, 4, 3), normal(1, 30, 3)
    lowered = prdc(real, synthetic, 5)
    assert lowered is not None and lowered.k == 3
    assert lowered == pytest.approx(prdc_by_loops(real, synthetic, 3))
    assert prdc(real[:1], synthetic) is None and prdc(real, synthetic[:1]) is None and prdc(real[:0], real) is None

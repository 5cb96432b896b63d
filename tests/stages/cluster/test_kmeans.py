"""Clusters inside a group: the planted ones are found, whatever the order of the images."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.config import ClusterConfig
from fairsynth.groups import Group
from fairsynth.stages.cluster.kmeans import Clustered, cluster_group

GROUP, DIMENSIONS = Group("low", "flower"), 64


def planted(*sizes: int, spread: float = 0.03, seed: int = 0) -> tuple[list[str], NDArray[np.float32], list[int]]:
    """Ids, unit vectors around random directions, and the direction of each; ids in random order."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(sizes), DIMENSIONS)) / np.sqrt(DIMENSIONS)
    points = points[truth] + spread * rng.normal(size=(len(truth), DIMENSIONS))
    ids = [f"{number:04d}" for number in rng.permutation(len(truth))]
    return ids, (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), truth.tolist()


def cluster(ids: list[str], points: NDArray[np.float32], seed: int = 0, **options: object) -> Clustered:
    """Cluster one group."""
    return cluster_group(ClusterConfig(**options), GROUP, ids, points, seed)


def is_planted(result: Clustered, ids: list[str], truth: list[int]) -> bool:
    """Whether clusters and planted ones are the same but for their numbers."""
    pairs = {(result.assignment[i], t) for i, t in zip(ids, truth, strict=True)}
    return len(pairs) == len(set(truth)) == result.k


@pytest.mark.parametrize("sizes", [(20, 20), (15, 40, 25), (60, 10, 10, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(sizes: tuple[int, ...], seed: int) -> None:
    ids, points, truth = planted(*sizes, seed=seed)
    for k in (len(sizes), "auto"):
        result = cluster(ids, points, k=k)
        assert is_planted(result, ids, truth)
        assert sorted(result.assignment) == sorted(ids)
        assert k == "auto" or result.remark == ""


@pytest.mark.parametrize("k", [3, "auto"])
def test_the_order_of_the_images_changes_nothing(k: int | str) -> None:
    # Overlapping clusters: a result that hung on the order would differ.
    ids, points, _ = planted(40, 30, 30, spread=0.12)
    first = cluster(ids, points, k=k)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(ids))
        assert cluster([ids[i] for i in order], points[order], k=k) == first


def test_clusters_are_numbered_by_their_first_image() -> None:
    result = cluster(*planted(20, 20, 20)[:2], k=3)
    first = [min(i for i, c in result.assignment.items() if c == number) for number in range(3)]
    assert first == sorted(first) and first[0] == "0000"


def test_a_cluster_below_the_minimum_lowers_k_with_a_remark() -> None:
    ids, points, _ = planted(30, 30, 4)
    result = cluster(ids, points, k=3, min_size=10)
    assert result.k == 2 and min(Counter(result.assignment.values()).values()) >= 10
    assert result.remark == "k lowered from 3 to 2: every cluster needs 10 images"
    assert cluster(ids, points, k=3, min_size=4).k == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [2, 4, 6, "auto"])
def test_no_cluster_is_below_the_minimum(k: int | str, seed: int) -> None:
    ids, points, _ = planted(25, 9, 8, 3, spread=0.1, seed=seed)
    result = cluster(ids, points, k=k, min_size=8)
    sizes = Counter(result.assignment.values())
    assert sorted(sizes) == list(range(result.k)) and min(sizes.values()) >= 8 and sum(sizes.values()) == 45


def test_a_small_group_gets_no_clusters() -> None:
    ids, points, _ = planted(9)
    result = cluster(ids, points, k=2, min_group=10)
    assert (result.assignment, result.k) == ({}, 0)
    assert result.remark == "9 images are fewer than cluster.min_group 10: no adapter of its own"
    assert cluster(*planted(10)[:2], k=1, min_group=10).k == 1


def test_one_blob_is_one_cluster() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 512)) + np.eye(512)[0] * 40
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    result = cluster([f"{i:04d}" for i in range(120)], points, k="auto")
    assert result.k == 1 and result.remark == "auto: no split is better than one cluster"


@pytest.mark.parametrize("k", [1, 3, "auto"])
def test_identical_images_are_one_cluster(k: int | str) -> None:
    points = np.tile(np.eye(DIMENSIONS, dtype=np.float32)[0], (30, 1))
    result = cluster([f"{i:04d}" for i in range(30)], points, k=k)
    assert result.k == 1 and set(result.assignment.values()) == {0} and len(result.assignment) == 30
    assert result.remark == "all images have the same embedding: one cluster"


def test_more_clusters_than_different_images_is_no_crash() -> None:
    points = np.eye(DIMENSIONS, dtype=np.float32)[[0] * 15 + [1] * 15]
    result = cluster([f"{i:04d}" for i in range(30)], points, k=5)
    assert result.k == 2 and "k lowered from 5 to 2" in result.remark


def test_k_one_puts_all_together() -> None:
    ids, points, _ = planted(20, 20)
    result = cluster(ids, points, k=1)
    assert result.assignment == dict.fromkeys(ids, 0) and result.remark == ""


def test_auto_stays_at_or_below_its_limit() -> None:
    assert cluster(*planted(12, 12, 12, 12, 12)[:2], k="auto", max_k=3).k <= 3

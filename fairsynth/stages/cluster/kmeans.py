"""FAISS spherical k-means inside each group of the training split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from fairsynth.config import ClusterConfig
from fairsynth.groups import Group
from fairsynth.manifest import seed_for

# Below this silhouette, clusters of a group describe noise.
MIN_SILHOUETTE = 0.05


@dataclass(frozen=True)
class Clustered:
    """Clusters of one group: the cluster of each image, k, and a remark where a rule changed k."""

    assignment: dict[str, int]
    k: int
    remark: str = ""


def cluster_group(
    config: ClusterConfig, group: Group, image_ids: Sequence[str], embeddings_ND: NDArray[np.float32], seed: int
) -> Clustered:
    """Cluster one group's images by their unit vectors (N, D).

    The result depends on the set of images and the seed, not on their order. A fixed k is lowered
    until every cluster has ``min_size`` images; ``auto`` takes the feasible k with the best silhouette.
    Groups under ``min_group`` are returned without clusters (k = 0).
    """
    if len(image_ids) < config.min_group:
        return Clustered(
            {},
            0,
            f"{len(image_ids)} images are fewer than cluster.min_group {config.min_group}: no adapter of its own",
        )
    order = np.argsort(np.array(image_ids))
    points = np.ascontiguousarray(embeddings_ND[order], np.float32)
    if (points == points[0]).all():
        return Clustered(dict.fromkeys(image_ids, 0), 1, "all images have the same embedding: one cluster")
    if config.k == "auto":
        labels, remark = _best_by_silhouette(config, points, seed_for(seed, *group))
    else:
        labels, remark = _fixed(config, config.k, points, seed_for(seed, *group))
    assignment = {image_ids[i]: int(label) for i, label in zip(order, labels, strict=True)}
    return Clustered(assignment, int(labels.max()) + 1, remark)


def _fixed(config: ClusterConfig, k: int, points_ND: NDArray[np.float32], seed: int) -> tuple[NDArray[np.int64], str]:
    for smaller in range(k, 0, -1):
        labels = kmeans(points_ND, smaller, config.restarts, seed)
        if smaller == 1 or np.bincount(labels, minlength=smaller).min() >= config.min_size:
            remark = (
                "" if smaller == k else f"k lowered from {k} to {smaller}: every cluster needs {config.min_size} images"
            )
            return labels, remark
    raise AssertionError("k = 1 always fits")


def _best_by_silhouette(
    config: ClusterConfig, points_ND: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.int64], str]:
    best, best_score = np.zeros(len(points_ND), np.int64), MIN_SILHOUETTE
    candidates = range(2, min(config.max_k, len(points_ND) // config.min_size) + 1)
    # Side by side, each in one thread: FAISS holds no lock of Python meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda k: kmeans(points_ND, k, config.restarts, seed), candidates))
    for k, labels in zip(candidates, found, strict=True):
        if np.bincount(labels, minlength=k).min() < config.min_size:
            continue
        score = float(
            silhouette_score(points_ND, labels, metric="cosine", sample_size=min(5000, len(labels)), random_state=0)
        )
        if score > best_score:
            best, best_score = labels, score
    return best, f"auto: silhouette {best_score:.3f}" if best.any() else "auto: no split is better than one cluster"


def kmeans(points_ND: NDArray[np.float32], k: int, restarts: int, seed: int) -> NDArray[np.int64]:
    """Spherical k-means of unit vectors: int64 labels (N,), numbered by the first image of each cluster."""
    if k == 1:
        return np.zeros(len(points_ND), np.int64)
    if not _more_than(k, points_ND):
        return _renumber(np.unique(points_ND, axis=0, return_inverse=True)[1].ravel())
    faiss.omp_set_num_threads(1)  # sums in a fixed order: the same bits every time
    model = faiss.Kmeans(
        points_ND.shape[1],
        k,
        niter=30,
        nredo=restarts,
        spherical=True,
        seed=seed % (2**31),
        min_points_per_centroid=1,
        max_points_per_centroid=10**7,
    )
    model.train(points_ND)
    _, nearest = model.index.search(points_ND, 1)
    return _renumber(nearest.ravel())


def _more_than(k: int, points_ND: NDArray[np.float32]) -> bool:
    """Whether there are more than k different rows. Nearly always the first few tell; to sort all would take a copy."""
    few = points_ND[: 10 * k]
    return len(np.unique(few, axis=0)) > k or len(np.unique(points_ND, axis=0)) > k


def _renumber(labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(labels_N, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)  # type: ignore[no-any-return]

"""Attributes that nobody named: inside each label, clusters of the embeddings stand in for them.

The clusters are found on training images alone; validation and test images go to the nearest centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairsynth.errors import DataError
from fairsynth.escaping import printable
from fairsynth.manifest import seed_for
from fairsynth.stages.cluster.output import Discovered


def discover(
    labels_N: Sequence[str], embeddings_ND: NDArray[np.float32], k: int, restarts: int, seed: int
) -> Discovered:
    """Split each label's training images, in a fixed order, into ``k`` pseudo-attributes by spherical k-means.

    They are matched over labels so that the same number means the most similar centres. Raises
    DataError if a label's embeddings cannot be split into k.
    """
    from fairsynth.stages.cluster.kmeans import (
        kmeans,  # scikit-learn and FAISS: seconds that a refused dataset need not wait
    )

    centres: dict[str, NDArray[np.float32]] = {}
    all_labels = np.array(labels_N, object)
    for label in sorted(set(labels_N)):
        points = np.ascontiguousarray(embeddings_ND[all_labels == label], np.float32)
        clusters = kmeans(points, k, restarts, seed_for(seed, "discover", label)) if len(points) >= k else np.zeros(1)
        if len(set(clusters.tolist())) < k:
            raise DataError(
                f"the {len(points)} training images of label {printable(label)!r} do not fall into {k} kinds; "
                "lower --data.discovered, or give the attribute"
            )
        means = np.stack([points[clusters == index].mean(0) for index in range(k)])
        centres[label] = (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return Discovered(_matched(centres))


def _matched(centres: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Order every label's centres like those of the first label that they resemble most."""
    from scipy.optimize import linear_sum_assignment

    labels = sorted(centres)
    first = centres[labels[0]]
    ordered = {labels[0]: first}
    for label in labels[1:]:
        similarity_KK = first @ centres[label].T
        _, columns = linear_sum_assignment(similarity_KK, maximize=True)
        ordered[label] = centres[label][columns]
    return ordered

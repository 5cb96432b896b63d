"""Attributes that nobody wrote down: inside each label, clusters of the embeddings stand in for them.

The clusters are found on training images alone; validation and test images go to the nearest centre.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.errors import DataError
from fairsynth.escaping import printable
from fairsynth.manifest import seed_for


def kind(index: int) -> str:
    """The name of a discovered attribute value; the same number in two labels means similar looks."""
    return f"kind-{index + 1}"


@dataclass(frozen=True)
class Discovered:
    """Unit vectors of the centres of each label's kinds: float32 (K, D), row i is ``kind(i)``."""

    centres: Mapping[str, NDArray[np.float32]]

    def assign(self, labels_N: Sequence[str], embeddings_ND: NDArray[np.float32]) -> list[str]:
        """The kind of each image: the nearest centre of its label."""
        found = [""] * len(labels_N)
        members: dict[str, list[int]] = defaultdict(list)
        for index, label in enumerate(labels_N):
            members[label].append(index)
        for label, rows in members.items():
            if label not in self.centres:
                raise DataError(f"no training image of label {printable(label)!r} has a usable embedding")
            nearest = (embeddings_ND[rows] @ self.centres[label].T).argmax(1)
            for row, index in zip(rows, nearest, strict=True):
                found[row] = kind(int(index))
        return found


def discover(
    labels_N: Sequence[str], embeddings_ND: NDArray[np.float32], k: int, restarts: int, seed: int
) -> Discovered:
    """Split each label's training images, in a fixed order, into ``k`` kinds by spherical k-means.

    Kinds are matched over labels so that the same number means the most similar centres. Raises
    DataError if a label's embeddings cannot be split into k.
    """
    from fairsynth.stages.cluster.kmeans import (
        kmeans,  # scikit-learn and FAISS: seconds that a refused dataset need not wait
    )

    centres: dict[str, NDArray[np.float32]] = {}
    for label in sorted(set(labels_N)):
        points = np.ascontiguousarray(embeddings_ND[[y == label for y in labels_N]], np.float32)
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


def agreement(labels_N: Sequence[str], kinds_N: Sequence[str], truth_N: Sequence[str]) -> list[dict[str, Any]]:
    """How well kinds and the true attribute agree, per label.

    ``adjusted_mutual_information``: 0 for chance, 1 for the same partition (Vinh et al. 2010).
    ``purity``: share of images whose kind's most frequent true value is theirs.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    found = []
    for label in sorted(set(labels_N)):
        pairs = [(k, t) for y, k, t in zip(labels_N, kinds_N, truth_N, strict=True) if y == label]
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for kind_name, true in pairs:
            table[kind_name][true] += 1
        kinds, truths = zip(*pairs, strict=True)
        found.append(
            {
                "label": label,
                "n": len(pairs),
                "adjusted_mutual_information": float(adjusted_mutual_info_score(truths, kinds)),
                "purity": sum(max(counts.values()) for counts in table.values()) / len(pairs),
                "kinds": {name: dict(counts) for name, counts in sorted(table.items())},
            }
        )
    return found

"""Does an image show its label and its attribute? Linear probes on CLIP embeddings of real images.

The probes learn from training and validation images, every group with the same weight, so that a probe of the label
cannot rely on the attribute. The test split is never seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.groups import Group
from fairsynth.manifest import seed_for

# Inverse strength of regularisation, for embeddings of length 1 (chosen on the demo's validation images).
STRENGTH = 30.0
# From this probability on the probe is taken to see a label or an attribute.
SEEN_FROM = 0.5
# Real images of a group by which a probe is judged at least: of fewer, one more or less would decide.
ENOUGH = 10
# More images of a group teach a linear probe nothing.
MOST_PER_GROUP = 2000


class Recognised(NamedTuple):
    """Real images of a group in which a probe that has not learnt from them sees label and attribute, of those judged."""

    right: int
    judged: int


def unrecognised(found: Mapping[Group, Recognised], least: float) -> dict[Group, Recognised]:
    """Groups of whose real images less than the share ``least`` is recognised, of those with enough to judge by."""
    return {
        group: its for group, its in sorted(found.items()) if its.judged >= ENOUGH and its.right < least * its.judged
    }


@dataclass(frozen=True)
class Probe:
    """Linear probes of label and attribute, as plain numbers that can be sent to workers."""

    labels: tuple[str, ...]
    attributes: tuple[str, ...]
    label_weights_CD: NDArray[np.float32]
    attribute_weights_CD: NDArray[np.float32]
    label_temperature: float = 1.0
    """Scores are divided by it: above 1 it makes probabilities of labels more cautious (see ``calibration``)."""
    attribute_temperature: float = 1.0

    def labels_of(self, embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of every label, (N, labels)."""
        return softmax(scores(embeddings_ND, self.label_weights_CD) / np.float32(self.label_temperature))

    def attributes_of(self, embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of every attribute, (N, attributes)."""
        return softmax(scores(embeddings_ND, self.attribute_weights_CD) / np.float32(self.attribute_temperature))

    def groups_of(self, embeddings_ND: NDArray[np.float32]) -> list[Group]:
        """The likeliest label and the likeliest attribute of every image."""
        labels, attributes = self.labels_of(embeddings_ND).argmax(1), self.attributes_of(embeddings_ND).argmax(1)
        return [Group(self.labels[y], self.attributes[a]) for y, a in zip(labels, attributes, strict=True)]

    def agreement(
        self, embeddings_ND: NDArray[np.float32], groups_N: Sequence[Group]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How probable each image's own label and own attribute are, each against the likeliest other one: (N,) each.

        From 0.5 on the probe agrees with the label or attribute; with two classes it is the probability itself. 0 for a
        label or attribute that the probe has never seen.
        """
        return (
            _own(self.labels_of(embeddings_ND), self.labels, [group.label for group in groups_N]),
            _own(self.attributes_of(embeddings_ND), self.attributes, [group.attribute for group in groups_N]),
        )


def fit_probe(embeddings_ND: NDArray[np.float32], groups_N: Sequence[Group], image_ids_N: Sequence[str]) -> Probe:
    """Fit both probes on real images. Which images count, and so the result, does not depend on their order.

    Raises ValueError for no images.
    """
    if not len(groups_N):
        raise ValueError("a probe needs images")
    chosen = used_images(groups_N, image_ids_N)
    used = Counter(groups_N[i] for i in chosen)
    weights = np.array([len(chosen) / len(used) / used[groups_N[i]] for i in chosen])
    labels, attributes = ([groups_N[i][part] for i in chosen] for part in (0, 1))
    points = embeddings_ND[chosen]
    return Probe(
        tuple(sorted(set(labels))),
        tuple(sorted(set(attributes))),
        _weights(points, labels, weights),
        _weights(points, attributes, weights),
    )


def used_images(groups_N: Sequence[Group], image_ids_N: Sequence[str]) -> list[int]:
    """Places of the images that a probe learns from, in an order that goes by their ids alone."""
    taken: Counter[Group] = Counter()
    chosen = []
    for index in sorted(range(len(groups_N)), key=lambda i: seed_for("probe", image_ids_N[i])):
        taken[groups_N[index]] += 1
        chosen += [index] if taken[groups_N[index]] <= MOST_PER_GROUP else []
    return chosen


def _weights(points_ND: NDArray[np.float32], classes_N: Sequence[str], weights_N: NDArray[Any]) -> NDArray[np.float32]:
    """Weights (C, D + 1) whose softmax gives the classes in sorted order; the last column is the intercept."""
    if len(set(classes_N)) == 1:
        return np.zeros((1, points_ND.shape[1] + 1), np.float32)
    from sklearn.linear_model import LogisticRegression  # seconds, where only figures of a probe are read

    # By number: numpy's text loses a zero byte at the end, and two such names would be one.
    place = {name: i for i, name in enumerate(sorted(set(classes_N)))}
    codes = [place[name] for name in classes_N]
    model = LogisticRegression(C=STRENGTH, max_iter=5000).fit(points_ND, codes, sample_weight=weights_N)
    weights = np.concatenate([model.coef_, model.intercept_[:, None]], 1)
    # For two classes scikit-learn gives one row, the second's.
    whole = np.concatenate([np.zeros_like(weights), weights]) if len(weights) == 1 else weights
    return whole.astype(np.float32)  # type: ignore[no-any-return]


def scores(points_ND: NDArray[np.float32], weights_CD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score of every class, (N, C): log probability up to a constant."""
    return points_ND @ weights_CD[:, :-1].T + weights_CD[:, -1]  # type: ignore[no-any-return]


def softmax(scores_NC: NDArray[Any]) -> NDArray[Any]:
    """Probability of every class, (N, C)."""
    shares = np.exp(scores_NC - scores_NC.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)  # type: ignore[no-any-return]


def _own(probabilities_NC: NDArray[np.float32], names: Sequence[str], wanted_N: Sequence[str]) -> NDArray[np.float32]:
    place = {name: i for i, name in enumerate(names)}
    columns = np.array([place.get(name, -1) for name in wanted_N], int)
    rows = np.arange(len(columns))
    own, others = probabilities_NC[rows, columns], probabilities_NC.copy()
    others[rows, columns] = 0
    return np.where(columns < 0, 0, own / (own + others.max(1))).astype(np.float32)


@dataclass(frozen=True)
class Halves:
    """Validation images, split in two by id: one half teaches the probe, the other is held out for comparison."""

    probe: list[int]
    held_out: list[int]


def halves(image_ids: Sequence[str], groups_N: Sequence[Group]) -> Halves:
    """Split every group's validation images in two; of an odd number the probe gets one more."""
    parts: tuple[list[int], list[int]] = ([], [])
    dealt: Counter[Group] = Counter()
    for index in sorted(range(len(image_ids)), key=lambda i: seed_for("halves", image_ids[i])):
        parts[dealt[groups_N[index]] % 2].append(index)
        dealt[groups_N[index]] += 1
    return Halves(*(sorted(part) for part in parts))

"""Groups, and the exact definitions of the figures that are computed over them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.printing import printable

SEPARATOR = ", "  # between the parts of an attribute that several columns make up


class Group(NamedTuple):
    """A pair (label, attribute), both text."""

    label: str
    attribute: str

    def __str__(self) -> str:
        return f"({printable(self.label)}, {printable(self.attribute)})"

    @property
    def slug(self) -> str:
        """A folder name: readable, safe, and unique (text that had to be changed gets a hash)."""
        text = f"{self.label}--{self.attribute}"
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:60] or "group"
        # A label may itself contain the separator: the hash keeps such groups apart.
        ambiguous = "--" in self.label or "--" in self.attribute or self.label[-1:] == "-" or self.attribute[:1] == "-"
        plain = safe == text and not ambiguous
        return safe if plain else f"{safe}-{hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:8]}"


def group_index(labels_N: NDArray[np.int64], attributes_N: NDArray[np.int64], n_attributes: int) -> NDArray[np.int64]:
    """g = y * n_attributes + a (the field's convention)."""
    return labels_N * n_attributes + attributes_N


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def wilson(successes: int, n: int, z: float = 1.959964) -> Interval:
    """Wilson score interval of a share (Wilson 1927). Raises ValueError for n = 0."""
    if n < 1:
        raise ValueError("an interval needs at least one observation")
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n)))


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy on one group; None where the group is empty."""

    group: Group
    n: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, or None for an empty group: never 0."""
        return self.correct / self.n if self.n else None


@dataclass(frozen=True)
class Scores:
    """All accuracies of one set of predictions.

    ``accuracy``: sample mean. ``accuracy_group_mean``: unweighted mean over groups with n > 0.
    ``accuracy_train_prior``: sum over groups of n_train(g) / N_train * accuracy(g), over the groups that
    have both training and test images ("adjusted average", Sagawa et al. 2020).
    ``worst``: the group with n > 0 whose accuracy is smallest (worst-group accuracy, WGA).
    """

    groups: tuple[GroupAccuracy, ...]
    accuracy: float
    accuracy_group_mean: float
    accuracy_train_prior: float
    worst: GroupAccuracy

    @property
    def worst_group_accuracy(self) -> float:
        """WGA: min over groups with n > 0."""
        accuracy = self.worst.accuracy
        assert accuracy is not None
        return accuracy


def score(
    correct_N: Sequence[bool] | NDArray[np.bool_],
    groups_N: Sequence[Group],
    all_groups: Sequence[Group],
    train_counts: Mapping[Group, int],
) -> Scores:
    """Score predictions: ``correct_N`` says of each image whether its label was predicted.

    Raises ValueError if there is no image at all.
    """
    if len(groups_N) == 0:
        raise ValueError("no images to score")
    hits = {group: [0, 0] for group in all_groups}
    for right, group in zip(correct_N, groups_N, strict=True):
        hits[group][0] += 1
        hits[group][1] += bool(right)
    per_group = tuple(GroupAccuracy(group, n, correct) for group, (n, correct) in hits.items())
    present = {g.group: g.correct / g.n for g in per_group if g.n}
    weights = {group: train_counts.get(group, 0) for group in present}
    total = sum(weights.values())
    prior = sum(weights[g] * present[g] for g in present) / total if total else float("nan")
    return Scores(
        per_group,
        sum(g.correct for g in per_group) / len(groups_N),
        sum(present.values()) / len(present),
        prior,
        min((g for g in per_group if g.n), key=lambda g: (g.correct / g.n, -g.n)),
    )


@dataclass(frozen=True)
class MethodScores:
    """A method's test figures over its seeds."""

    name: str
    seeds: tuple[int, ...]
    scores: tuple[Scores, ...]

    def values(self, figure: str) -> list[float]:
        """One figure of every seed."""
        return [float(getattr(s, figure)) for s in self.scores]

    def pooled_groups(self) -> list[tuple[Group, int, float | None]]:
        """Each group with its n in the test split and its accuracy, averaged over seeds."""
        table = []
        for column in zip(*(s.groups for s in self.scores), strict=True):
            accuracies = [g.accuracy for g in column if g.accuracy is not None]
            table.append((column[0].group, column[0].n, float(np.mean(accuracies)) if accuracies else None))
        return table

    def worst_group(self) -> tuple[Group, int]:
        """The group with the lowest accuracy averaged over seeds, and its n."""
        group, n, _ = min((row for row in self.pooled_groups() if row[2] is not None), key=lambda row: row[2] or 0.0)
        return group, n


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95 % Student-t interval of the mean over seeds; None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy import stats

    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(max(0.0, mean - half), min(1.0, mean + half))

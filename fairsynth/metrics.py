"""Accuracies by group, and further figures of predictions."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsynth.groups import Group, coded, counted, grouped

BINS = 10
FIGURES = ("equalized_odds_difference", "ece", "balanced_accuracy", "worst_class_accuracy")


def equalized_odds_difference(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], attributes_N: NDArray[np.int64]
) -> float | None:
    """The largest gap between attributes in how often a label is predicted, where it is right and where it is wrong.

    For two labels it is fairlearn's figure of this name: the larger one of the gaps in true and false positive rate
    (Agarwal et al. 2018, arXiv 1803.02453). For more labels it is the largest over the labels, each against the rest.
    Rates of attributes without such images do not count (fairlearn takes them for 0); None where no rate has two
    attributes to compare.
    """
    gaps = []
    for label in np.unique(labels_N):
        for is_it in (labels_N == label, labels_N != label):
            present = np.unique(attributes_N[is_it])
            rates = [float((predicted_N[is_it & (attributes_N == a)] == label).mean()) for a in present]
            gaps += [max(rates) - min(rates)] if len(rates) > 1 else []
    return max(gaps) if gaps else None


def expected_calibration_error(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], bins: int = BINS
) -> float:
    """Mean gap of confidence and accuracy over ``bins`` equal bins of the top label's probability (Guo et al. 2017).

    A bin has its upper bound, not its lower one. The confidence is that of the predicted label also for two labels.
    """
    confidence = probabilities_NK.max(1)
    right = probabilities_NK.argmax(1) == labels_N
    # Rounded, so that a probability that float32 moved off a bin's bound stays in its bin.
    places = np.clip(np.ceil(np.round(confidence * bins, 6)).astype(int) - 1, 0, bins - 1)
    error = 0.0
    for place in np.unique(places):
        inside = places == place
        error += float(inside.mean()) * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return error


def more_figures(predictions: pa.Table, label_names: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """``FIGURES`` of each method, a value per seed in the seeds' order.

    ``balanced_accuracy``: mean of the labels' recalls; ``worst_class_accuracy``: the smallest of them.
    """
    figures: dict[str, dict[str, list[float | None]]] = {}
    for method, seeds in _runs(predictions).items():
        for places in seeds.values():
            values = _figures(predictions.take(pa.array(places)), label_names)
            for name in FIGURES:
                figures.setdefault(method, {}).setdefault(name, []).append(values[name])
    return figures


def _runs(predictions: pa.Table) -> dict[str, dict[int, NDArray[np.int64]]]:
    """Places of the rows of each method, as they first occur, and of each of its seeds, in their order."""
    (methods_N, names), seeds_N = coded(predictions["method"]), predictions["seed"].to_numpy()
    order = np.lexsort((seeds_N, methods_N))
    ends = np.flatnonzero(np.diff(methods_N[order]) | np.diff(seeds_N[order])) + 1
    found: dict[str, dict[int, NDArray[np.int64]]] = {}
    for places in np.split(order, ends) if len(order) else ():
        found.setdefault(names[methods_N[places[0]]], {})[int(seeds_N[places[0]])] = places
    return found


def _figures(rows: pa.Table, label_names: Sequence[str]) -> dict[str, float | None]:
    names = pa.array(list(label_names), pa.string())
    labels, predicted = (pc.index_in(rows[name], names).to_numpy().astype(np.int64) for name in ("label", "predicted"))
    attributes = rows["attribute"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    probabilities = np.array(rows["probabilities"].to_pylist(), np.float64)
    recalls = [float((predicted[labels == label] == label).mean()) for label in np.unique(labels)]
    return {
        "equalized_odds_difference": equalized_odds_difference(labels, predicted, attributes),
        "ece": expected_calibration_error(probabilities, labels),
        "balanced_accuracy": float(np.mean(recalls)),
        "worst_class_accuracy": min(recalls),
    }


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The difference of two methods over the same seeds: its mean, 95 % Student-t interval, and the verdict.

    Of what is not repeated, such as test images that all seeds share, nothing is in it: see ``fairsynth.verdict``.
    ``improved`` if the interval lies above 0, ``not improved`` if it lies at or below 0, else ``inconclusive``; so,
    too, for a single seed, which has no interval. Raises ValueError for numbers of seeds that differ.
    """
    differences = np.array([a - b for a, b in zip(ours, theirs, strict=True)])
    mean = float(differences.mean())
    if len(differences) < 2:
        return {"mean": mean, "ci95": None, "verdict": "inconclusive"}
    from scipy import stats

    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    low, high = mean - half, mean + half
    verdict = "improved" if low > 0 else "not improved" if high <= 0 else "inconclusive"
    return {"mean": mean, "ci95": [low, high], "verdict": verdict}


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

    Raises ValueError for no images.
    """
    if len(groups_N) == 0:
        raise ValueError("no images to score")
    hits = {group: [0, 0] for group in all_groups}
    for right, group in zip(correct_N, groups_N, strict=True):
        hits[group][0] += 1
        hits[group][1] += bool(right)
    return _scores(hits, train_counts)


def _scores(hits: Mapping[Group, Sequence[int]], train_counts: Mapping[Group, int]) -> Scores:
    """Scores from the images of each group, and from those of them that are right."""
    per_group = tuple(GroupAccuracy(group, n, correct) for group, (n, correct) in hits.items())
    present = {g.group: g.correct / g.n for g in per_group if g.n}
    weights = {group: train_counts.get(group, 0) for group in present}
    total = sum(weights.values())
    prior = sum(weights[g] * present[g] for g in present) / total if total else float("nan")
    return Scores(
        per_group,
        sum(g.correct for g in per_group) / sum(g.n for g in per_group),
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


def test_counts(predictions: pa.Table) -> Counter[Group]:
    """Test images per group: those of one method and seed."""
    if not len(predictions):
        return Counter()
    same = (pc.equal(predictions[name], predictions[name][0]) for name in ("method", "seed"))
    return counted(predictions.filter(pc.and_(*same)))


def score_methods(
    predictions: pa.Table, groups: Sequence[Group], train_counts: Mapping[Group, int]
) -> list[MethodScores]:
    """Score a table of predictions per method and seed. Raises KeyError for a group that is not among ``groups``."""
    places_N, kinds = grouped(predictions)
    # A prediction that is no label is wrong.
    right_N = pc.fill_null(pc.equal(predictions["predicted"], predictions["label"]), False).to_numpy()
    result = []
    for method, seeds in _runs(predictions).items():
        scores = []
        for rows in seeds.values():
            hits = {group: [0, 0] for group in groups}
            n = np.bincount(places_N[rows], minlength=len(kinds)).tolist()
            right = np.bincount(places_N[rows][right_N[rows]], minlength=len(kinds)).tolist()
            for kind, *both in zip(kinds, n, right, strict=True):
                if both[0]:
                    hits[kind][:] = both
            scores.append(_scores(hits, train_counts))
        result.append(MethodScores(method, tuple(seeds), tuple(scores)))
    return result


def agreement(labels_N: Sequence[str], pseudo_N: Sequence[str], truth_N: Sequence[str]) -> list[dict[str, Any]]:
    """How well pseudo-attributes and the true attribute agree, per label.

    ``adjusted_mutual_information``: 0 for chance, 1 for the same partition (Vinh et al. 2010).
    ``purity``: share of images that have the most frequent true value of their pseudo-attribute.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    by_label = []
    for label in sorted(set(labels_N)):
        pairs = [(p, t) for y, p, t in zip(labels_N, pseudo_N, truth_N, strict=True) if y == label]
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for pseudo, true in pairs:
            table[pseudo][true] += 1
        pseudos, truths = zip(*pairs, strict=True)
        by_label.append(
            {
                "label": label,
                "n": len(pairs),
                "adjusted_mutual_information": float(adjusted_mutual_info_score(truths, pseudos)),
                "purity": sum(max(counts.values()) for counts in table.values()) / len(pairs),
                "kinds": {name: dict(counts) for name, counts in sorted(table.items())},
            }
        )
    return by_label

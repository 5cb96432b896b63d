"""Stage 7, evaluate: figures of predictions beside the accuracies of ``fairsynth.groups``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BINS = 10
FIGURES = ("equalized_odds_difference", "ece", "balanced_accuracy", "worst_class_accuracy")


def equalized_odds_difference(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], attributes_N: NDArray[np.int64]
) -> float | None:
    """The largest gap between attributes in how often a label is predicted, where it is right and where it is wrong.

    For two labels what fairlearn calls by this name: the larger one of the gaps in true and false positive rate
    (Agarwal et al. 2018, arXiv 1803.02453). For more the largest over the labels, each against the rest. Rates of attributes
    without such images do not count; None where no rate has two attributes to compare.
    """
    gaps = []
    for label in np.unique(labels_N):
        for is_it in (labels_N == label, labels_N != label):
            there = np.unique(attributes_N[is_it])
            rates = [float((predicted_N[is_it & (attributes_N == a)] == label).mean()) for a in there]
            gaps += [max(rates) - min(rates)] if len(rates) > 1 else []
    return max(gaps) if gaps else None


def expected_calibration_error(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], bins: int = BINS
) -> float:
    """Mean gap between confidence and accuracy over ``bins`` equal bins of the predicted label's probability (Guo et al. 2017).

    A bin has its upper bound, not its lower one. The confidence is that of the predicted label also for two labels.
    """
    confidence = probabilities_NK.max(1)
    right = probabilities_NK.argmax(1) == labels_N
    # Rounded, so that a probability that float32 moved off a bin's bound stays in its bin.
    places = np.clip(np.ceil(np.round(confidence * bins, 6)).astype(int) - 1, 0, bins - 1)
    error = 0.0
    for place in np.unique(places):
        mine = places == place
        error += float(mine.mean()) * abs(float(confidence[mine].mean()) - float(right[mine].mean()))
    return error


def more_figures(predictions: pa.Table, label_names: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """``FIGURES`` of each method, a value per seed in the seeds' order.

    ``balanced_accuracy``: mean of the labels' recalls; ``worst_class_accuracy``: the smallest of them.
    """
    found: dict[str, dict[str, list[float | None]]] = {}
    for method in predictions["method"].unique().to_pylist():
        mine = predictions.filter(pc.equal(predictions["method"], method))
        for seed in sorted(mine["seed"].unique().to_pylist()):
            values = _figures(mine.filter(pc.equal(mine["seed"], seed)), label_names)
            for name in FIGURES:
                found.setdefault(method, {}).setdefault(name, []).append(values[name])
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
    """The difference of two methods over the same seeds: its mean, 95 % Student-t interval, and what may be said of it.

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

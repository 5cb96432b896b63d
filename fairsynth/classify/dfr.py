"""Deep feature reweighting: a linear layer refitted on balanced images (Kirichenko et al. 2023, arXiv 2204.02937).

Features are scaled by the mean and deviation of the training images'. L1-penalised logistic regressions on subsamples
in which every group is as large as the smallest; their coefficients and intercepts are averaged.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Number of linear layers that are averaged, each fitted on another balanced subsample.
REFITS = {"dfr": 20, "dfr-train": 10}
# The strengths that the authors' code tries.
GRID = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)


class Linear(NamedTuple):
    """A linear layer: logits are features @ weight.T + bias; weight (K, D), bias (K,)."""

    weight_KD: NDArray[np.float64]
    bias_K: NDArray[np.float64]

    def predict(self, features_ND: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class of every row, int64 (N,)."""
        return (features_ND @ self.weight_KD.T + self.bias_K).argmax(1)

    def after(self, mean_D: NDArray[np.float64], deviation_D: NDArray[np.float64]) -> Linear:
        """The same layer for features that have not been scaled yet."""
        weight = self.weight_KD / deviation_D
        return Linear(weight, self.bias_K - weight @ mean_D)


class Labelled(NamedTuple):
    """Features (N, D) with classes and groups (N,)."""

    features_ND: NDArray[np.floating]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]

    def take(self, places: NDArray[np.int64]) -> Labelled:
        """Some rows."""
        return Labelled(self.features_ND[places], self.labels_N[places], self.groups_N[places])


def balanced(groups_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of a random subsample in which every group present has as many rows as the smallest."""
    present, counts = np.unique(groups_N, return_counts=True)
    return np.concatenate([rng.permutation(np.flatnonzero(groups_N == g))[: counts.min()] for g in present])


def halves(groups_N: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of two random halves of every group; the first has the odd one."""
    first, second = [], []
    for g in np.unique(groups_N):
        places = rng.permutation(np.flatnonzero(groups_N == g))
        cut = -(-len(places) // 2)
        first.append(places[:cut])
        second.append(places[cut:])
    return np.concatenate(first), np.concatenate(second)


def fit(rows: Labelled, strength: float, n_labels: int) -> Linear:
    """One L1-penalised logistic regression (liblinear; one against the rest for more than two classes).

    ``strength``: scikit-learn's C. Of two classes the first one's logit is 0; a class without rows has a logit that
    no other is below. Raises ValueError for rows of one class.
    """
    # Whoever wants to know what a method does imports this module, and scikit-learn takes seconds.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    classes = np.unique(rows.labels_N)
    if len(classes) < 2:
        raise ValueError("images of two labels are needed to refit a linear layer")
    model = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", max_iter=1000, random_state=0)
    weight, bias = np.zeros((n_labels, rows.features_ND.shape[1])), np.full(n_labels, -np.inf)
    with warnings.catch_warnings():
        # Close enough to the optimum for equal predictions.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(classes) == 2:
            model.fit(rows.features_ND, rows.labels_N)
            weight[classes[1]], bias[classes] = model.coef_[0], [0.0, model.intercept_[0]]
        else:
            many = OneVsRestClassifier(model).fit(rows.features_ND, rows.labels_N)
            for place, one in zip(classes, many.estimators_, strict=True):
                weight[place], bias[place] = one.coef_[0], one.intercept_[0]
    return Linear(weight, np.where(np.isinf(bias), bias[classes].min() - 1e4, bias))


def worst_group(predicted_N: NDArray[np.int64], rows: Labelled) -> float:
    """Smallest accuracy of the groups present."""
    right = predicted_N == rows.labels_N
    return min(float(right[rows.groups_N == g].mean()) for g in np.unique(rows.groups_N))


def refit(
    train: Labelled, known: Labelled, method: str, n_labels: int, rng: np.random.Generator
) -> tuple[Linear, Labelled, NDArray[np.int64]]:
    """The layer of ``dfr`` (from the images ``known``, of validation) or ``dfr-train``, for unscaled features.

    Returns also the validation images that chose the strength, and their predictions: for dfr half of each group,
    as the other half teaches. Raises ValueError if there are too few images.
    """
    mean = np.asarray(train.features_ND.mean(0, dtype=np.float64))
    deviation = np.asarray(train.features_ND.std(0, dtype=np.float64))
    deviation[deviation == 0] = 1.0

    def scaled(rows: Labelled) -> Labelled:
        return rows._replace(features_ND=(rows.features_ND - mean) / deviation)

    known = scaled(known)
    # Of a large training set only what is refitted is held a second time.
    rows = scaled(train) if method == "dfr-train" else known
    learnt, held_out = (rows, known) if method == "dfr-train" else map(known.take, halves(known.groups_N, rng))
    strength, predicted = choose(learnt, held_out, n_labels, rng)
    return refitted(rows, strength, n_labels, REFITS[method], rng).after(mean, deviation), held_out, predicted


def choose(
    learnt: Labelled, held_out: Labelled, n_labels: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.int64]]:
    """The strength whose fit on a balanced subsample of ``learnt`` has the best WGA on ``held_out``; the predictions.

    Raises ValueError if ``held_out`` is empty.
    """
    if not len(held_out.labels_N):
        raise ValueError("no group has two validation images, one to learn from and one to judge by")
    subsample = learnt.take(balanced(learnt.groups_N, rng))
    tried = []
    for strength in GRID:
        predicted = fit(subsample, strength, n_labels).predict(held_out.features_ND)
        tried.append((worst_group(predicted, held_out), strength, predicted))
    _, strength, predicted = max(tried, key=lambda entry: entry[:2])
    return strength, predicted


def refitted(rows: Labelled, strength: float, n_labels: int, refits: int, rng: np.random.Generator) -> Linear:
    """The mean of ``refits`` fits, each on a balanced subsample of its own."""
    layers = [fit(rows.take(balanced(rows.groups_N, rng)), strength, n_labels) for _ in range(refits)]
    return Linear(np.mean([f.weight_KD for f in layers], 0), np.mean([f.bias_K for f in layers], 0))

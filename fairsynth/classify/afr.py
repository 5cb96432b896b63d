"""Automatic feature reweighting: a linear layer refitted on what ERM finds hard (Qiu et al. 2023, arXiv 2306.11074).

ERM learns from four fifths of the training images. Its linear layer then learns from the rest, each image weighing the
more the less sure ERM is of its label, and is held near ERM's layer. It needs no attribute of a training image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify.dfr import Labelled, Linear
from fairsynth.errors import DataError

_HELD_OUT = 0.2
# The authors descend on Waterbirds by 500 steps of 0.02.
_RATE, _TIME = 0.02, 10.0


def split(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of four fifths of ``n`` images, drawn at random, and of the others; both sorted.

    Raises DataError for less than two images.
    """
    if n < 2:
        raise DataError(
            "AFR needs two training images, one to learn from and one to refit its linear layer on; leave it out of tune.methods"
        )
    places, held_out = rng.permutation(n), max(1, round(_HELD_OUT * n))
    return np.sort(places[held_out:]), np.sort(places[:held_out])


def image_weights(
    probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64], gamma: float
) -> NDArray[np.float64]:
    """Equation 2's weights (N,): exp(-gamma p) over the number of images of the label, their sum 1.

    p is the probability that ERM gives to the image's label.
    """
    p_N = np.asarray(probabilities_NK, np.float64)[np.arange(len(labels_N)), labels_N]
    weights_N = np.exp(-gamma * p_N) / np.bincount(labels_N)[labels_N]
    return weights_N / weights_N.sum()


def softmax(logits_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class probabilities."""
    exponentials = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def layers(rows: Labelled, erm: Linear, gamma: float, pull: float, looks: int) -> Iterator[Linear]:
    """The linear layer as it descends from ERM's, ``looks`` times in even intervals.

    Gradient descent on the weighted cross-entropy plus ``pull`` (the paper's lambda) times the squared distance to
    ERM's weights and biases. Steps are as long as the authors', or shorter and more where the features are so large
    that these would overshoot.
    """
    x_ND = np.hstack([np.asarray(rows.features_ND, np.float64), np.ones((len(rows.labels_N), 1))])
    start_KD = np.hstack([erm.weight_KD, erm.bias_K[:, None]]).astype(np.float64)
    weights_N = image_weights(softmax(x_ND @ start_KD.T), rows.labels_N, gamma)
    right_NK = np.eye(len(start_KD))[rows.labels_N]
    # Cross-entropy curves by at most half the features' squared length.
    steepest = 0.5 * float(weights_N @ (x_ND**2).sum(1)) + 2 * pull
    steps = int(np.ceil(_TIME / looks / min(_RATE, 1 / steepest)))
    layer_KD = start_KD.copy()
    for _ in range(looks):
        for _ in range(steps):
            errors_NK = weights_N[:, None] * (softmax(x_ND @ layer_KD.T) - right_NK)
            slope_KD = errors_NK.T @ x_ND + 2 * pull * (layer_KD - start_KD)
            layer_KD = layer_KD - _TIME / looks / steps * slope_KD
        yield Linear(layer_KD[:, :-1], layer_KD[:, -1])

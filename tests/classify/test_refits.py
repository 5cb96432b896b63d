"""Of the layers on AFR's way down validation chooses one, by the rule of the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fairsynth.classify.afr import layers
from fairsynth.classify.dfr import Labelled, Linear
from fairsynth.classify.epoch import Epoch, figures, merit
from fairsynth.classify.images import Data
from fairsynth.classify.refits import Refitter
from fairsynth.classify.training import Training
from tests.support.training import CONFIG, SETTING, data

__all__ = ["data"]


def rows(n: int, seed: int) -> Labelled:
    """Images of two labels and two attributes, of which ERM's layer below knows the attribute alone."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(4, n, p=[0.4, 0.1, 0.1, 0.4])
    features = rng.normal(size=(n, 3))
    features[:, 0] += 1.5 * (groups // 2)
    features[:, 1] += 2.0 * (groups % 2)
    return Labelled(features, groups // 2, groups)


ERM = Linear(np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([1.0, -1.0]))
TRAIN, KNOWN = rows(60, 1), rows(40, 2)


@pytest.mark.parametrize("rule", ["worst-group", "worst-class", "accuracy"])
def test_the_first_of_the_best_layers_is_kept(rule: Any) -> None:
    def worth(predicted: np.ndarray, of: Labelled) -> tuple[float, float]:
        return merit(rule, *figures(predicted, of.labels_N, of.groups_N))

    found = Refitter(ERM, {"gamma": 8.0, "lambda": 0.0}, 2, 0, 40, worth).refit("afr", TRAIN, KNOWN)
    tried = []
    for layer in layers(TRAIN, ERM, 8.0, 0.0, 40):
        right = (KNOWN.features_ND @ layer.weight_KD.T + layer.bias_K).argmax(1) == KNOWN.labels_N
        of = {"worst-group": KNOWN.groups_N, "worst-class": KNOWN.labels_N}.get(rule, np.zeros(40, int))
        tried.append((min(right[of == v].mean() for v in np.unique(of)), right.mean()))
    places = [i for i, one in enumerate(tried) if one == max(tried)]
    best = list(layers(TRAIN, ERM, 8.0, 0.0, 40))[places[0]]
    assert np.array_equal(found.layer.weight_KD, best.weight_KD) and np.array_equal(found.layer.bias_K, best.bias_K)
    assert found.held_out is KNOWN and np.array_equal(found.predicted_N, best.predict(KNOWN.features_ND))
    # The choice was one: the last layer is worse, and by worst-group accuracy the first one, too.
    assert tried[-1] < max(tried) and (rule != "worst-group" or tried[0] < max(tried))


@pytest.mark.parametrize("rule", ["worst-group", "worst-class", "accuracy"])
def test_a_layer_is_worth_what_its_epoch_will_be(data: Data, rule: Any) -> None:
    worth = Training("afr", SETTING, data, CONFIG, 0, rule)._refitter().merit
    predicted = np.array([0] * 10 + [1] * 30)
    of = Labelled(np.zeros((40, 1)), np.array([0] * 20 + [1] * 20), np.repeat([0, 1, 2, 3], 10))
    epoch = Epoch(0, 2, 0.0, *figures(predicted, of.labels_N, of.groups_N), True)
    assert (epoch.worst_group_accuracy, epoch.worst_class_accuracy, epoch.accuracy) == (0.0, 0.5, 0.75)
    assert worth(predicted, of) == epoch.merit(rule)

"""Methods whose last phase is one refit of the linear layer on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify import afr, dfr
from fairsynth.classify.dfr import Labelled, Linear

LINEAR = frozenset({*dfr.REFITS, "afr"})


class Refit(NamedTuple):
    """A linear layer, the validation images that it is judged by, and their predicted labels."""

    layer: Linear
    held_out: Labelled
    predicted_N: NDArray[np.int64]


class Refitter(NamedTuple):
    """What a refit may use besides images."""

    erm: Linear
    """The layer so far."""
    setting: Mapping[str, float]
    n_labels: int
    seed: int
    looks: int
    """How often AFR looks at validation images."""
    merit: Callable[[NDArray[np.int64], Labelled], tuple[float, float]]
    """What predicted labels of images are worth; larger is better."""

    def refit(self, method: str, train: Labelled, known: Labelled) -> Refit:
        """The layer of a method from features of training images and of the validation images ``known``.

        Raises ValueError if there are too few images.
        """
        if method == "afr":
            return self._afr(train, known)
        return Refit(*dfr.refit(train, known, method, self.n_labels, np.random.default_rng(self.seed + 2)))

    def _afr(self, train: Labelled, known: Labelled) -> Refit:
        """Of the layers on the way down the first of the best, as other methods choose their epoch."""
        tried = [
            Refit(layer, known, layer.predict(known.features_ND))
            for layer in afr.layers(train, self.erm, self.setting["gamma"], self.setting["lambda"], self.looks)
        ]
        return max(tried, key=lambda one: self.merit(one.predicted_N, known))

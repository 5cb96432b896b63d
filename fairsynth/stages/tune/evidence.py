"""Which trial to train anew, by what validation images say of each and by how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify.epoch import Rule

# An earlier one in the order of preference gives way only to a trial that is better in this share of all resamplings
# of the validation images. Few images leave the order as it is; many decide.
SURE = 0.9
RESAMPLINGS = 2000
_SEED = 20
_AT_ONCE = 100


@dataclass(frozen=True)
class Judged:
    """Right or wrong predictions of each trial (T, N), and the (T,) trials' places in the order of preference."""

    right_TN: NDArray[np.bool_]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]

    def figures(self, rule: Rule) -> NDArray[np.float64]:
        """The rule's figure of every trial (T,): worst group, worst class or mean accuracy."""
        return _figure(self.right_TN.astype(np.float64), self._parts(rule))

    def _parts(self, rule: Rule) -> list[NDArray[np.int64]]:
        of = {"worst-group": self.groups_N, "worst-class": self.labels_N}.get(rule, np.zeros_like(self.groups_N))
        return [np.flatnonzero(of == value) for value in np.unique(of)]

    def resampled(self, rule: Rule) -> NDArray[np.float64]:
        """The figure of every trial in resamplings of the images inside every group or class, (resamplings, T)."""
        rng, right = np.random.default_rng(_SEED), self.right_TN.astype(np.float32)
        worst = np.full((RESAMPLINGS, len(right)), np.inf)
        for places in self._parts(rule):
            n = len(places)
            for start in range(0, RESAMPLINGS, _AT_ONCE):
                # How often each image is drawn.
                counts = rng.multinomial(n, np.full(n, 1 / n), size=min(_AT_ONCE, RESAMPLINGS - start))
                shares = counts @ right[:, places].T / n
                part = worst[start : start + len(shares)]
                np.minimum(part, shares, out=part)
        return worst


def _figure(right_TN: NDArray[np.float64], parts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    return np.min([right_TN[:, places].mean(1) for places in parts], axis=0)  # type: ignore[no-any-return]


def preferred(judged: Judged, rule: Rule) -> int:
    """The trial to choose; the trials come in the order of preference, the first one first.

    A trial takes the place of the one chosen so far if its figure is higher in at least ``SURE`` of paired resamplings
    (stratified bootstrap, Efron and Tibshirani 1993; ties count half).
    """
    drawn = judged.resampled(rule)
    chosen = 0
    for trial in range(1, drawn.shape[1]):
        better = (drawn[:, trial] > drawn[:, chosen]).mean() + (drawn[:, trial] == drawn[:, chosen]).mean() / 2
        if better >= SURE:
            chosen = trial
    return chosen

"""Which trial to train anew, by what validation images say of each and by how sure they are."""

from __future__ import annotations

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
    """Right or wrong predictions of each trial (T, N) on validation images of these labels and groups (N,).

    ``learnt_labels``, ``learnt_groups``: those of the training images. Of one without validation images nothing is
    known, so no lead over the worst of them is sure.
    """

    right_TN: NDArray[np.bool_]
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    learnt_labels: NDArray[np.int64]
    learnt_groups: NDArray[np.int64]

    def _parts(self, rule: Rule) -> list[NDArray[np.int64]]:
        """The places of each group's or class's images; none of one that validation lacks."""
        nothing = np.zeros_like(self.groups_N), np.zeros(0, np.int64)
        of = {
            "worst-group": (self.groups_N, self.learnt_groups),
            "worst-class": (self.labels_N, self.learnt_labels),
        }
        of_N, learnt = of.get(rule, nothing)
        return [np.flatnonzero(of_N == value) for value in np.union1d(of_N, learnt)]

    def lead(self, rule: Rule, newcomer: int, incumbent: int) -> float:
        """Share of resamplings inside every group or class in which one trial's figure is above another's.

        Ties count half. In each part two images are added, one that only either of them got right: else a resampling of
        one or two images would always agree with itself, and a single image decide.
        """
        rng, worst = np.random.default_rng(_SEED), np.full((2, RESAMPLINGS), np.inf)
        for places in self._parts(rule):
            right = self.right_TN[[newcomer, incumbent]][:, places].astype(np.float64)
            right = np.concatenate([right, np.eye(2)], 1)
            n = right.shape[1]
            for start in range(0, RESAMPLINGS, _AT_ONCE):
                # How often each image is drawn.
                counts = rng.multinomial(n, np.full(n, 1 / n), size=_AT_ONCE)
                part = worst[:, start : start + _AT_ONCE]
                np.minimum(part, right @ counts.T / n, out=part)
        return float((worst[0] > worst[1]).mean() + (worst[0] == worst[1]).mean() / 2)


def preferred(judged: Judged, rule: Rule) -> int:
    """The trial to choose; the trials come in the order of preference, the first one first.

    A trial takes the place of the one chosen so far if its figure is higher in at least ``SURE`` of paired resamplings
    (stratified bootstrap, Efron and Tibshirani 1993; ties count half).
    """
    chosen = 0
    for trial in range(1, len(judged.right_TN)):
        if judged.lead(rule, trial, chosen) >= SURE:
            chosen = trial
    return chosen

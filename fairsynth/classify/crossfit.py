"""What a way of training is worth, by images that it has not seen: validation in two halves, each in turn.

A policy may use validation images as it likes, to choose epochs, to refit a layer or to learn from them: it does so with
one half and is judged by the other. So every validation image judges every policy once, and policies of all kinds are
comparable (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify.epoch import Epoch, Judge, Rule
from fairsynth.classify.images import Data, taken
from fairsynth.classify.methods import HALVES, phases, trainings
from fairsynth.classify.policies import Setting
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.config import ClassifyConfig
from fairsynth.models.data_parallel import Ranks
from fairsynth.store.mirror import gone


def half_of(groups_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The half, 0 or 1, of every validation image: random halves of every group, odd images to either in turn."""
    rng, half_N, odd = np.random.default_rng(seed), np.zeros(len(groups_N), np.int64), 0
    for group in np.unique(groups_N):
        places = rng.permutation(np.flatnonzero(groups_N == group))
        half_N[places] = (np.arange(len(places)) + odd) % HALVES
        odd += len(places) % HALVES
    return half_N


@dataclass(frozen=True)
class CrossFit:
    """Trains a method's setting for each half, and predicts the other one."""

    method: str
    setting: Setting
    data: Data
    config: ClassifyConfig
    seed: int
    rule: Rule
    ranks: Ranks | None = None

    def predicted(self, checkpoint: Path, seconds: float, report: Callable[[int, Epoch], None]) -> NDArray[np.int64]:
        """The class of every validation image, int64 (N,), by the training that has not seen it.

        A policy that only chooses by validation images, or refits a layer on them, is trained once, and each half chooses for
        itself. ``checkpoint``: a file, beside which the states of trainings lie; ``report`` takes the number of each epoch,
        counted over all trainings, and its figures. Raises DataError as training does.
        """
        validation, count = self.data.validation, 0
        half_N, predicted_N = half_of(validation.groups, self.seed), np.full(len(validation), -1)
        for trained in trainings(phases(self.method, self.setting, self.config)):
            first, *others = (taken(validation, np.flatnonzero(half_N == half)) for half in trained)
            data = replace(self.data, validation=first)
            run = Training(
                self.method, self.setting, data, self.config, self.seed, self.rule, self.ranks, list(map(Judge, others))
            )
            path = _file(checkpoint, trained[0])
            for epoch in saved_epochs(run, path, seconds):
                count += 1
                report(count, epoch)
            # Its last state, so that a trial that is killed in the second training does not repeat the first.
            if trained[-1] + 1 < HALVES:
                run.save(path)
            for place, half in enumerate(trained):
                run.use(place)
                judges = np.flatnonzero(half_N != half)
                predicted_N[judges] = run.probabilities(taken(validation, judges)).argmax(1)
        return predicted_N


def forget(checkpoint: Path) -> None:
    """Remove the states of cross-fitted trainings beside this file."""
    for half in range(HALVES):
        gone(_file(checkpoint, half))


def _file(checkpoint: Path, half: int) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}-half-{half}{checkpoint.suffix}")

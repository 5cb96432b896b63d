"""Which trials go on. Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943), synchronous.

The asynchronous form depends on the order of arrival. Here a trial is compared with all others of its method at the
same epoch, so the outcome depends on settings and seed alone, not on machines, speed or interruptions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify.epoch import Epoch, Rule, figures, merit
from fairsynth.classify.images import Images
from fairsynth.classify.policies import Setting
from fairsynth.stages.tune.rungs import FACTOR
from fairsynth.stages.tune.rungs import rungs as rungs


@dataclass(frozen=True)
class Trial:
    """A setting with the best validation figures of its run; None if none of its epochs may be chosen.

    ``promise``: its best merit over all epochs so far, whether they may be chosen or not. ``finished``: it ran to
    the end.
    """

    method: str
    number: int
    setting: Setting
    worst_group_accuracy: float | None
    worst_class_accuracy: float | None
    accuracy: float | None
    promise: tuple[float, float]
    epochs: int
    finished: bool
    seconds: float = field(default=0.0, compare=False)
    """Of all workers that trained it; not part of its identity."""
    predicted: tuple[int, ...] | None = None
    """Of a cross-fitted trial: the class of every validation image, by a training that had not seen it."""
    diverged: str = ""
    """How its training diverged, if it did; what it had reached before counts."""

    def merit(self, rule: Rule) -> tuple[float, float]:
        """The key by which trials are chosen: as ``Epoch.merit``; below all others where no epoch may be chosen."""
        figures = {"worst-group": self.worst_group_accuracy, "worst-class": self.worst_class_accuracy}
        first = figures.get(rule, self.accuracy)
        return (-1.0, -1.0) if first is None or self.accuracy is None else (first, self.accuracy)


def trial_of(
    method: str,
    number: int,
    setting: Setting,
    history: list[Epoch],
    best: Epoch | None,
    rule: Rule,
    whole: bool,
    diverged: str = "",
) -> Trial:
    """A trial's record after some epochs, perhaps none."""
    return Trial(
        method,
        number,
        dict(setting),
        best.worst_group_accuracy if best else None,
        best.worst_class_accuracy if best else None,
        best.accuracy if best else None,
        max((epoch.merit(rule) for epoch in history), default=(-1.0, -1.0)),
        len(history),
        whole,
        diverged=diverged,
    )


def cross_fitted(
    method: str,
    number: int,
    setting: Setting,
    predicted_N: NDArray[np.int64] | None,
    validation: Images,
    rule: Rule,
) -> Trial:
    """The record of a trial that predicted every validation image without having seen it; None: it could not."""
    if predicted_N is None:
        return Trial(method, number, dict(setting), None, None, None, (-1.0, -1.0), 0, True)
    known = figures(predicted_N, validation.labels, validation.groups)
    predicted = tuple(int(value) for value in predicted_N)
    return Trial(method, number, dict(setting), *known, merit(rule, *known), 0, True, predicted=predicted)


def read_trial(content: Mapping[str, Any]) -> Trial:
    """A trial from its record as JSON."""
    predicted = content.get("predicted")
    lists = {"promise": tuple(content["promise"]), "predicted": None if predicted is None else tuple(predicted)}
    return Trial(**{**content, **lists})


def promoted(trials: list[Trial], of: int | None = None) -> set[int]:
    """Numbers of the trials of one method that go on: the best third, ties to the earlier ones.

    ``of``: a third of so many, where some of them have ended already.
    """
    ranked = sorted(trials, key=lambda trial: (*(-part for part in trial.promise), trial.number))
    return {trial.number for trial in ranked[: math.ceil((of or len(trials)) / FACTOR)]}


def best(trials: list[Trial], rule: Rule) -> Trial:
    """The trial to train anew: the best by the rule, ties to the earlier one."""
    return max(trials, key=lambda trial: (*trial.merit(rule), -trial.number))

"""Runs a trial, or several that train alike, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairsynth.classify.crossfit import CrossFit, forget, half_of
from fairsynth.classify.epoch import Choice, Epoch, Judge, Rule
from fairsynth.classify.images import Data, taken
from fairsynth.classify.methods import HALVES, Phase, cannot_refit, without_result
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.config import ClassifyConfig
from fairsynth.errors import DataError, DivergedError
from fairsynth.models.data_parallel import Ranks
from fairsynth.stages.tune.halving import Trial, cross_fitted, trial_of
from fairsynth.stages.tune.together import Wanted
from fairsynth.store.mirror import gone


@dataclass(frozen=True)
class Running:
    """What trials are run with. ``note`` takes the number and the figures of each epoch.

    ``checkpoint``: the file, or one beside it, from which a trial goes on that was interrupted; written every so many
    ``seconds``.
    """

    data: Data
    config: ClassifyConfig
    seed: int
    rule: Rule
    ranks: Ranks | None
    checkpoint: Path
    seconds: float
    note: Callable[[int, Epoch], None]

    def __call__(self, wanted: Sequence[Wanted], until: int = 0) -> list[Trial]:
        """The records of trials that one training serves, or of a single one, up to an epoch if ``until`` is not 0.

        Raises DataError as training does, but for a policy that these data do not allow.
        """
        first, *others = wanted
        if others:
            return self._shared(wanted)
        return [self._crossed(first) if first.crossed else self._single(first, until)]

    def forget(self) -> None:
        """Remove what interrupted trials go on from."""
        gone(self.checkpoint)
        forget(self.checkpoint)

    def _single(self, one: Wanted, until: int) -> Trial:
        count, run = 0, self._training(one, self.data)
        with suppress(DivergedError):
            for count, epoch in enumerate(saved_epochs(run, self.checkpoint, self.seconds), start=1):
                self.note(count, epoch)
                if count == until:
                    break
        whole = bool(run.diverged) or count == sum(phase.epochs for phase in run.phases)
        if count == until and not whole:
            run.save(self.checkpoint)
        told = run.history[:count], run.best, self.rule, whole, run.diverged
        return trial_of(one.method, one.number, one.setting, *told)

    def _crossed(self, one: Wanted) -> Trial:
        """Of a trial on both halves of validation; a policy that the data forbid predicts nothing."""
        fit = CrossFit(one.method, one.setting, self.data, self.config, self.seed, self.rule, self.ranks)
        known: NDArray[np.int64] | None = None
        diverged = ""
        try:
            known = fit.predicted(self.checkpoint, self.seconds, self.note)
        except DivergedError as error:
            diverged = str(error)
        except DataError:  # of these data the policy cannot learn
            pass
        trial = cross_fitted(one.method, one.number, one.setting, known, self.data.validation, self.rule)
        return replace(trial, diverged=diverged)

    def _shared(self, wanted: Sequence[Wanted]) -> list[Trial]:
        """Of one training, by which the first trial goes on the longest."""
        judges = [judge for one in wanted for judge in self._judges(one)]
        first, data = wanted[0], replace(self.data, validation=judges[0].known)
        run = self._training(first, data, judges[1:])
        with suppress(DivergedError, DataError):  # what they are to each trial, its own choices say
            for count, epoch in enumerate(saved_epochs(run, self.checkpoint, self.seconds), start=1):
                self.note(count, epoch)
        trials, place = list[Trial](), 0
        for one in wanted:
            places = range(place, place + (HALVES if one.crossed else 1))
            trials.append(self._trial(one, run, places))
            place = places.stop
        return trials

    def _training(self, one: Wanted, data: Data, also: Sequence[Judge] = ()) -> Training:
        return Training(one.method, one.setting, data, self.config, self.seed, self.rule, self.ranks, also)

    def _judges(self, one: Wanted) -> list[Judge]:
        known = self.data.validation
        chosen = tuple(phase.selectable for phase in self._phases(one))
        if not one.crossed:
            return [Judge(known, chosen)]
        half_N = half_of(known.groups, self.seed)
        return [Judge(taken(known, np.flatnonzero(half_N == half)), chosen) for half in range(HALVES)]

    def _phases(self, one: Wanted) -> Sequence[Phase]:
        return one.plan(self.config).phases

    def _trial(self, one: Wanted, run: Training, places: range) -> Trial:
        choices = [run.choices[place] for place in places]
        ended = all(len(choice.history) == sum(phase.epochs for phase in self._phases(one)) for choice in choices)
        how = "" if ended else run.diverged
        if not one.crossed:
            (choice,) = choices
            if choice.refused:
                raise DataError(cannot_refit(one.method, choice.refused))
            return trial_of(one.method, one.number, one.setting, choice.history, choice.best, self.rule, True, how)
        known = self._predicted(run, choices, places)
        trial = cross_fitted(one.method, one.number, one.setting, known, self.data.validation, self.rule)
        return replace(trial, diverged=without_result(one.method, how) if how and known is None else "")

    def _predicted(self, run: Training, choices: Sequence[Choice], places: range) -> NDArray[np.int64] | None:
        """The class of every validation image, by the state that the other half has chosen; None if it could not."""
        if any(choice.best is None for choice in choices):
            return None
        known = self.data.validation
        half_N, predicted_N = half_of(known.groups, self.seed), np.full(len(known), -1)
        for half, place in enumerate(places):
            run.use(place)
            others = np.flatnonzero(half_N != half)
            predicted_N[others] = run.probabilities(taken(known, others)).argmax(1)
        return predicted_N

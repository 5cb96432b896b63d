"""Searches the settings of all methods: wave by wave, rung by rung, all trials of a rung side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fairsynth.artifacts import Units, write_json
from fairsynth.classify.epoch import Epoch
from fairsynth.classify.images import Data, effort
from fairsynth.classify.methods import phases, trainings
from fairsynth.classify.packs import has_synthetic, load_data
from fairsynth.classify.policies import Policy, Setting, need_cross_fitting, ordered, policies, policy_of
from fairsynth.config import ClassifyConfig, TuneConfig
from fairsynth.errors import DataError
from fairsynth.models.data_parallel import Ranks
from fairsynth.stages.tune.evidence import Judged, preferred
from fairsynth.stages.tune.halving import Trial, best, promoted, read_trial, rungs
from fairsynth.stages.tune.running import Running
from fairsynth.stages.tune.search_space import setting, suggested
from fairsynth.stages.tune.together import Wanted, together

Report = Callable[[Mapping[str, Any]], None]
"""Takes a trial's figures after an epoch, for whoever watches; what trials are chosen by is in their units."""
RunTrials = Callable[[Mapping[str, Callable[[Report, Ranks | None], None]]], None]
"""Runs trials, by the names of their units, in any order, anywhere, repeatedly if needed."""


@dataclass(frozen=True)
class TrialTask:
    """A trial, and the epoch to run it up to; 0: to its end."""

    method: str
    number: int
    setting: Setting
    until: int = 0

    @property
    def unit(self) -> str:
        """Name of its unit."""
        return f"{self.method}-{self.number}" + (f"-after-{self.until}" if self.until else "")


@dataclass(frozen=True)
class Search:
    """The search: the same number of trials for every method of ``config``, on the packs in a folder."""

    packs: Path
    units: Units
    classify: ClassifyConfig
    config: TuneConfig
    seed: int

    def run(self, run_trials: RunTrials, checkpoint_seconds: float = 30.0) -> list[Trial]:
        """Run all trials that have no unit yet by ``run_trials``; returns all of them, by method and number.

        The outcome does not depend on interruptions, nor on workers and their speed, unless ``worker_minutes`` is set.
        Raises what ``run_trials`` raises.
        """
        config, trials = self.config, dict[str, list[Trial]]()
        run_rung = self.run_rung(run_trials, checkpoint_seconds)
        waves = config.search != "random" or config.worker_minutes is not None
        size = config.wave if waves else config.trials
        for start in range(0, config.trials, size):
            # Only the seconds of earlier waves count, also where an earlier run began later ones.
            before = sum(seconds for (_, number), seconds in self._spent().items() if number < start)
            if start and config.worker_minutes and before >= 60 * config.worker_minutes:
                break
            numbers = range(start, min(start + size, config.trials))
            tasks = [task for method in config.methods for task in self._wave(method, numbers, trials.get(method, []))]
            for trial in self._halved(run_rung, tasks):
                trials.setdefault(trial.method, []).append(trial)
        return [trial for method in config.methods for trial in trials[method]]

    def run_rung(self, run_trials: RunTrials, checkpoint_seconds: float) -> Callable[[Sequence[TrialTask]], None]:
        """A function that runs tasks up to their rungs, those without a unit; long ones begin first, so that all end together."""

        def run(tasks: Sequence[TrialTask]) -> None:
            pending = [task for task in tasks if not self.units.has(task.unit)]
            pending.sort(key=self._effort, reverse=True)
            groups = together(pending, self._shareable, self.classify)
            work = {
                tasks[0].unit: partial(self.trial, tasks[0], checkpoint_seconds, also=tasks[1:]) for tasks in groups
            }
            if work:
                run_trials(work)

        return run

    def _effort(self, task: TrialTask) -> int:
        """About how long a task takes beside others; exact figures would change nothing but their order."""
        its = phases(task.method, task.setting, self.classify)
        times = len(trainings(its)) if self._cross_fits(task.method) else 1
        return times * effort(its, self._data(task))

    def _wave(self, method: str, numbers: Sequence[int], known: Sequence[Trial]) -> list[TrialTask]:
        """The next trials of a method."""
        if not known or self.config.search == "random":
            return [TrialTask(method, n, self._setting(method, n)) for n in numbers]
        # Trials that fell out rank below all that ran to their ends.
        rule = self.config.select
        values = [trial.merit(rule)[0] if trial.finished else trial.promise[0] - 1 for trial in known]
        past = [(trial.setting, value) for trial, value in zip(known, values, strict=True)]
        chosen = suggested(method, numbers, past, self.classify, self.seed, self.left_open)
        return [TrialTask(method, n, one) for n, one in zip(numbers, chosen, strict=True)]

    def _halved(self, run_rung: Callable[[Sequence[TrialTask]], None], tasks: Sequence[TrialTask]) -> list[Trial]:
        """Run trials rung by rung; returns all of them."""
        stops: dict[str, list[int]] = {method: self._rungs(method) for method in self.config.methods}
        alive = list(tasks)
        for rung in range(max(map(len, stops.values()))):
            tasks_of_rung = [
                replace(task, until=stops[task.method][rung]) for task in alive if rung < len(stops[task.method])
            ]
            run_rung(tasks_of_rung)
            for method in self.config.methods:
                trials = [self._read(task) for task in tasks_of_rung if task.method == method]
                # One that diverged has nothing to go on with.
                stay = promoted([trial for trial in trials if not trial.finished], len(trials))
                for trial in trials:
                    # Its seconds are in the rung's record.
                    if trial.number not in stay:
                        self._commit(replace(trial, seconds=0.0), 0)
                alive = [task for task in alive if task.method != method or not trials or task.number in stay]
        run_rung(alive)
        spent = self._spent()
        return [replace(self._read(task), seconds=spent[task.method, task.number]) for task in tasks]

    def _rungs(self, method: str) -> list[int]:
        """None for what is cross-fitted: the figures of a trial are known at its end."""
        if self._cross_fits(method):
            return []
        return rungs(phases(method, self._setting(method, 0), self.classify), self.config.grace_epochs)

    def _cross_fits(self, method: str) -> bool:
        return method == "fairsynth" and need_cross_fitting(self.left_open)

    def _setting(self, method: str, number: int) -> Setting:
        return setting(method, number, self.classify, self.seed, self.left_open)

    @cached_property
    def left_open(self) -> tuple[Policy, ...]:
        """The policies of fairsynth among which it searches, in order: without synthetic images those that need none."""
        data = load_data(self.packs, "fairsynth")
        sizes = np.bincount(np.concatenate([data.train.groups, data.validation.groups]))
        return ordered(policies(self.classify, has_synthetic(self.packs, "fairsynth")), int(sizes[sizes > 0].min()))

    def best(self, trials: Sequence[Trial], method: str) -> Trial:
        """The trial of a method to train anew, for fairsynth the one that is ``preferred``.

        Raises DataError if the data allow no policy of fairsynth.
        """
        its = [trial for trial in trials if trial.method == method]
        if not self._cross_fits(method):
            return best(its, self.config.select)
        diverged = [trial.diverged for trial in its if trial.diverged]
        its = [trial for trial in its if trial.predicted is not None]
        if not its and diverged:
            raise DataError(
                f"every way in which fairsynth learns from these data diverged, the first: {diverged[0]}; try "
                "more settings (tune.trials), or leave fairsynth out (tune.methods)"
            )
        if not its:
            raise DataError(
                "no way in which fairsynth can learn from these data could be judged: a label has too few validation "
                "images; add some, or leave fairsynth out (tune.methods)"
            )
        its.sort(key=lambda trial: (self._place(trial), trial.number))
        data = load_data(self.packs, method)
        known, learnt = data.validation, data.train
        right_TN = np.array([np.array(trial.predicted) == known.labels for trial in its])
        judged = Judged(right_TN, known.labels, known.groups, learnt.labels, learnt.groups)
        return its[preferred(judged, self.config.select)]

    def compared(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """The policies of fairsynth that were cross-fitted, in order of preference, each with its best trial's figures."""
        rule, by_policy = self.config.select, dict[Policy, Trial]()
        for trial in (trial for trial in trials if trial.predicted is not None):
            policy = policy_of(trial.setting, self.classify)
            by_policy[policy] = max(by_policy.get(policy, trial), trial, key=lambda one: one.merit(rule))
        figures = ("worst_group_accuracy", "worst_class_accuracy", "accuracy")
        return [
            policy._asdict() | {name: getattr(by_policy[policy], name) for name in figures}
            for policy in sorted(by_policy, key=self.left_open.index)
        ]

    def _place(self, trial: Trial) -> int:
        """A trial's place in the order of preference."""
        return self.left_open.index(policy_of(trial.setting, self.classify))

    def seconds(self) -> dict[str, float]:
        """Worker seconds of each method's trials; of a piece that was interrupted, those since it was begun again."""
        spent = self._spent()
        return {m: round(sum(s for (other, _), s in spent.items() if other == m), 1) for m in self.config.methods}

    def _spent(self) -> dict[tuple[str, int], float]:
        """Worker seconds of each trial, summed over its pieces."""
        spent: dict[tuple[str, int], float] = {}
        names = sorted(name for name in self.units.done() if not name.startswith("pack-"))
        self.units.here(names)
        for name in names:
            record: dict[str, Any] = json.loads((self.units[name] / "trial.json").read_text("utf-8"))
            key = record["method"], record["number"]
            spent[key] = spent.get(key, 0.0) + record["seconds"]
        return spent

    def _shareable(self, task: TrialTask) -> Wanted | None:
        """The task as a trial that may share its training with others: one that runs to its end without a rung."""
        if self._rungs(task.method):
            return None
        return Wanted(task.method, task.number, task.setting, self._cross_fits(task.method))

    def trial(
        self,
        task: TrialTask,
        checkpoint_seconds: float,
        report: Report,
        ranks: Ranks | None = None,
        also: Sequence[TrialTask] = (),
    ) -> None:
        """Run one trial up to its rung and commit the result. ``report`` is called after every epoch.

        Of several processes (``ranks``) the first commits. ``also``: trials that its training serves, too; they are
        committed before it, for it stands for all of them.
        """
        began, tasks = time.monotonic(), [task, *also]
        checkpoint = self.units.path.parent / "checkpoints" / f"{task.method}-{task.number}.safetensors"
        known = self._data(task), self.classify, self.seed, self.config.select, ranks
        run = Running(*known, checkpoint, checkpoint_seconds, self._noting(task, report))
        wanted = [Wanted(one.method, one.number, one.setting, self._cross_fits(one.method)) for one in tasks]
        trials = run(wanted, task.until)
        if ranks is not None and not ranks.first:
            return
        for trial in reversed(trials):
            self._commit(replace(trial, seconds=_seconds(began, ranks, len(trials))), task.until)
        if trials[0].finished:
            run.forget()

    def _data(self, task: TrialTask) -> Data:
        return load_data(self.packs, task.method)

    def _noting(self, task: TrialTask, report: Report) -> Callable[[int, Epoch], None]:
        """Tells ``report`` of an epoch."""

        def note(count: int, epoch: Epoch) -> None:
            figures = {"worst_group_accuracy": epoch.worst_group_accuracy, "accuracy": epoch.accuracy}
            names = {"method": task.method, "number": task.number, "epoch": count}
            report(figures | names | {"merit": epoch.merit(self.config.select)[0]})

        return note

    def _commit(self, trial: Trial, until: int) -> None:
        name = TrialTask(trial.method, trial.number, trial.setting, until).unit
        if not self.units.has(name):
            self.units.commit(name, lambda folder: write_json(folder / "trial.json", vars(trial)))

    def _read(self, task: TrialTask) -> Trial:
        return read_trial(json.loads((self.units[task.unit] / "trial.json").read_text("utf-8")))


def _seconds(began: float, ranks: Ranks | None, trials: int) -> float:
    """Worker seconds since then, of one of so many trials."""
    return round((time.monotonic() - began) * (ranks.world if ranks else 1) / trials, 2)

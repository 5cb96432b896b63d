"""Searches the settings of all methods with Ray Tune: rung by rung, all trials of a rung side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Units, write_json
from fairsynth.config import ClassifyConfig, TuneConfig
from fairsynth.engine.session import Session
from fairsynth.errors import InfrastructureError
from fairsynth.stages.classify import Training, saved_epochs
from fairsynth.stages.halving import Trial, promoted, rungs, trial_of
from fairsynth.stages.methods import phases
from fairsynth.stages.search_space import setting
from fairsynth.stages.training_data import load_data


@dataclass(frozen=True)
class Search:
    """What is searched: of every method of ``config`` as many trials, on the packs in a folder."""

    packs: Path
    units: Units
    classify: ClassifyConfig
    config: TuneConfig
    seed: int

    def settings(self, method: str, number: int) -> Mapping[str, float]:
        """The setting of a trial."""
        return setting(method, number, self.classify, self.seed)

    def run(self, session: Session) -> list[Trial]:
        """Run all trials that have no unit yet; returns all of them, by method and number.

        What it ends with does not depend on how often it was interrupted, nor on workers and their speed. Raises
        InfrastructureError if a trial failed for good.
        """
        everyone = [(method, number) for method in self.config.methods for number in range(self.config.trials)]
        stops = {
            method: rungs(method, self._longest(method), self.config.grace_epochs) for method in self.config.methods
        }
        alive = set(everyone)
        for rung in range(max(map(len, stops.values()))):
            there = [trial for trial in everyone if trial in alive and rung < len(stops[trial[0]])]
            self._run_rung(session, [(m, n, stops[m][rung]) for m, n in there])
            for method in self.config.methods:
                mine = [self._read(m, n, stops[m][rung]) for m, n in there if m == method]
                stay = promoted(mine)
                for trial in mine:
                    if trial.number not in stay:
                        self._commit(trial, 0)
                        alive.discard((method, trial.number))
        self._run_rung(session, [(method, number, 0) for method, number in everyone if (method, number) in alive])
        return [self._read(method, number, 0) for method, number in everyone]

    def seconds(self) -> dict[str, float]:
        """Worker seconds of each method's trials, all their pieces together."""
        spent = dict.fromkeys(self.config.methods, 0.0)
        for path in self.units.path.glob("*/trial.json"):
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            # A trial that fell out at a rung has two records of the same piece.
            if record["finished"] or "-after-" in path.parent.name:
                spent[record["method"]] += record["seconds"]
        return {method: round(value, 1) for method, value in spent.items()}

    def _longest(self, method: str) -> int:
        """Epochs of the method's longest trial."""
        whole = self.settings(method, 0)
        return sum(phase.epochs for phase in phases(method, whole, self.classify))

    def _run_rung(self, session: Session, trials: Sequence[tuple[str, int, int]]) -> None:
        """Run trials up to an epoch, or to their ends where it is 0."""
        pending = [trial for trial in trials if not self.units[_unit(*trial)].exists()]
        if not pending:
            return
        session.connect()
        from ray import tune

        worker = session.worker()
        space = {
            "trial": tune.grid_search([list(trial) for trial in pending]),
            "packs": str(self.packs),
            "units": str(self.units.path),
            "classify": self.classify.model_dump(),
            "tune": self.config.model_dump(),
            "seed": self.seed,
            "threads": worker.threads,
            "checkpoint_seconds": session.resources.checkpoint_seconds,
        }
        results = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": worker.cpus, "gpu": worker.gpus}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="merit", mode="max", max_concurrent_trials=worker.count, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=str(self.units.path.parent / "ray"),
                name="search",
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=session.resources.max_failures),
            ),
        ).fit()
        for result in results:
            if result.error is not None:
                raise InfrastructureError(
                    f"stage tune: a trial failed: {' '.join(str(result.error).split())[-400:]}; the same command goes on"
                )

    def trial(self, method: str, number: int, until: int, checkpoint_seconds: float, report: Any) -> None:
        """Run one trial to its end or to an epoch, and commit what came of it. ``report`` is called for every epoch."""
        chosen, rule, began = self.settings(method, number), self.config.select, time.monotonic()
        run = Training(method, chosen, load_data(self.packs, method), self.classify, self.seed, rule)
        checkpoint, count = self.units.path.parent / "checkpoints" / f"{method}-{number}.safetensors", 0
        for count, epoch in enumerate(saved_epochs(run, checkpoint, checkpoint_seconds), start=1):
            report(method, number, count, epoch)
            if count == until:
                break
        whole = count == sum(phase.epochs for phase in run.phases)
        if count == until and not whole:
            run.save(checkpoint)
        trial = trial_of(method, number, chosen, run.history[:count], run.best, rule, whole)
        self._commit(replace(trial, seconds=round(time.monotonic() - began, 2)), until)
        if whole:
            checkpoint.unlink(missing_ok=True)

    def _commit(self, trial: Trial, until: int) -> None:
        name = _unit(trial.method, trial.number, until)
        if not self.units[name].exists():
            self.units.commit(name, lambda folder: write_json(folder / "trial.json", vars(trial)))

    def _read(self, method: str, number: int, until: int) -> Trial:
        content = json.loads((self.units[_unit(method, number, until)] / "trial.json").read_text("utf-8"))
        return Trial(**content | {"promise": tuple(content["promise"])})


def run_trial(space: Mapping[str, Any]) -> None:
    """One trial inside Ray Tune."""
    import torch
    from ray import tune

    torch.set_num_threads(space["threads"])
    classify, config = ClassifyConfig.model_validate(space["classify"]), TuneConfig.model_validate(space["tune"])
    search = Search(Path(space["packs"]), Units(Path(space["units"])), classify, config, space["seed"])

    def report(method: str, number: int, count: int, epoch: Any) -> None:
        figures = {"worst_group_accuracy": epoch.worst_group_accuracy, "accuracy": epoch.accuracy}
        tune.report(
            figures | {"method": method, "number": number, "epoch": count, "merit": epoch.merit(config.select)[0]}
        )

    method, number, until = space["trial"]
    search.trial(method, number, until, space["checkpoint_seconds"], report)


def _unit(method: str, number: int, until: int) -> str:
    """The unit of a trial that ended, or of one that ran up to an epoch."""
    return f"{method}-{number}" if not until else f"{method}-{number}-after-{until}"

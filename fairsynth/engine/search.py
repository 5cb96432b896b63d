"""Searches a method's settings with Ray Tune against validation worst-group accuracy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Units, write_json
from fairsynth.config import ClassifyConfig, TuneConfig
from fairsynth.engine.session import Session
from fairsynth.errors import InfrastructureError
from fairsynth.stages.classify import Training
from fairsynth.stages.search_space import setting
from fairsynth.stages.training_data import load_data


@dataclass(frozen=True)
class Trial:
    """A setting with the best validation figures of its run."""

    method: str
    number: int
    setting: Mapping[str, float]
    worst_group_accuracy: float
    accuracy: float
    epochs: int


def search(
    session: Session,
    method: str,
    packs: Path,
    units: Units,
    classify: ClassifyConfig,
    tune_config: TuneConfig,
    seed: int,
) -> list[Trial]:
    """Run the method's trials that have no unit yet; returns all of them, in order.

    Raises InfrastructureError if a trial failed for good.
    """
    pending = [i for i in range(tune_config.trials) if not units[f"{method}-{i}"].exists()]
    if pending:
        _run_trials(session, method, pending, packs, units, classify, tune_config, seed)
    return [_read(units[f"{method}-{i}"]) for i in range(tune_config.trials)]


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the best validation WGA; ties by mean accuracy, then the earlier one."""
    return max(trials, key=lambda t: (t.worst_group_accuracy, t.accuracy, -t.number))


def _run_trials(
    session: Session,
    method: str,
    pending: Sequence[int],
    packs: Path,
    units: Units,
    classify: ClassifyConfig,
    config: TuneConfig,
    seed: int,
) -> None:
    session.connect()
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    worker = session.worker()
    longest = classify.pretrain_epochs + (classify.finetune_epochs if method == "fairsynth" else 0)
    space = {
        "trial": tune.grid_search(list(pending)),
        "method": method,
        "packs": str(packs),
        "units": str(units.path),
        "classify": classify.model_dump(),
        "seed": seed,
        "threads": worker.threads,
    }
    results = tune.Tuner(
        tune.with_resources(run_trial, {"cpu": worker.cpus, "gpu": worker.gpus}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="worst_group_accuracy",
            mode="max",
            max_concurrent_trials=worker.count,
            reuse_actors=True,
            scheduler=ASHAScheduler(
                time_attr="epoch", max_t=longest, grace_period=min(config.grace_epochs, longest), reduction_factor=3
            ),
        ),
        run_config=tune.RunConfig(
            storage_path=str(packs.parent / "ray"),
            name=method,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=session.resources.max_failures),
        ),
    ).fit()
    for result in results:
        if result.error is not None:
            raise InfrastructureError(
                f"stage tune: a trial of {method} failed: {' '.join(str(result.error).split())[-400:]}; the same command goes on"
            )
        # A trial that ASHA stopped could not commit itself.
        commit_trial(units, Trial(**json.loads((result.metrics or {})["state"])))


def run_trial(space: Mapping[str, Any]) -> None:
    """One trial: report every epoch, commit at the end."""
    import torch
    from ray import tune

    torch.set_num_threads(space["threads"])
    classify = ClassifyConfig.model_validate(space["classify"])
    method, number = space["method"], space["trial"]
    chosen = setting(method, number, classify, space["seed"])
    run = Training(method, chosen, load_data(Path(space["packs"]), method), classify, space["seed"])
    trial = Trial(method, number, chosen, 0.0, 0.0, 0)
    for count, epoch in enumerate(run.epochs(), start=1):
        top = run.best or epoch
        trial = Trial(
            method,
            number,
            chosen,
            top.worst_group_accuracy if run.best else 0.0,
            top.accuracy if run.best else 0.0,
            count,
        )
        tune.report(
            {
                "worst_group_accuracy": epoch.worst_group_accuracy,
                "accuracy": epoch.accuracy,
                "epoch": count,
                "state": json.dumps(vars(trial) | {"setting": dict(chosen)}),
            }
        )
    commit_trial(Units(Path(space["units"])), trial)


def commit_trial(units: Units, trial: Trial) -> None:
    """Commit a trial's result as a unit."""
    content = vars(trial) | {"setting": dict(trial.setting)}
    units.commit(f"{trial.method}-{trial.number}", lambda folder: write_json(folder / "trial.json", content))


def _read(folder: Path) -> Trial:
    return Trial(**json.loads((folder / "trial.json").read_text("utf-8")))

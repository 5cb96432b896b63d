"""Runs trials on Ray Tune, side by side; a trial leaves its own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.session import Session
from fairsynth.errors import FairsynthError, InfrastructureError

if TYPE_CHECKING:  # it imports torch, which work without models does without
    from fairsynth.models.data_parallel import Ranks

Report = Callable[[Mapping[str, Any]], None]
"""Takes a trial's figures so far, among them ``merit``: for Tune's own records. Tune chooses nothing by it."""
TrialWork = Callable[[Report, "Ranks | None"], None]
"""Runs one trial up to its rung and commits the result: alone (None), or as one of several processes."""
METRIC = "merit"
# Under which name a trial reports why it failed.
_FAILURE = "failure"


def run_trials(session: Session, stage: str, trials: Mapping[str, TrialWork], storage: Path) -> None:
    """Run all trials, as many side by side as there are workers.

    Raises what a trial raised on purpose, or InfrastructureError if one failed for good.
    """
    session.connect()
    from ray import tune

    worker = session.worker()
    run = tune.with_parameters(_run, trials=dict(trials), threads=worker.threads)
    results = tune.Tuner(
        tune.with_resources(run, {"cpu": worker.cpus, "gpu": worker.gpus}),
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(metric=METRIC, mode="max", max_concurrent_trials=worker.count, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(storage),
            name="search",
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=session.resources.max_failures),
        ),
    ).fit()
    for result in results:
        if result.error is not None:
            raise translated(stage, result.error) from result.error
        if failure := (result.metrics or {}).get(_FAILURE):
            raise unpacked(stage, failure)


def _run(space: Mapping[str, Any], trials: Mapping[str, TrialWork], threads: int) -> None:
    """One trial inside Ray Tune."""
    import torch
    from ray import tune

    torch.set_num_threads(threads)
    try:
        trials[space["trial"]](lambda figures: tune.report(dict(figures)), None)
    except InfrastructureError:
        raise  # Ray tries again
    except FairsynthError as error:
        tune.report({_FAILURE: packed(error), METRIC: -1.0})

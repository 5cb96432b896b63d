"""Runs trials on Ray Tune, side by side; a trial leaves its own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.engine.each_node import require_shared
from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.lifetime.beats import Beats
from fairsynth.engine.lifetime.hangs import replaced
from fairsynth.engine.session import Session
from fairsynth.errors import FairsynthError, InfrastructureError
from fairsynth.exhausted import is_final
from fairsynth.store.arrow import storage_of

if TYPE_CHECKING:  # it imports torch, which work without models does without
    from fairsynth.models.data_parallel import Ranks

Report = Callable[[Mapping[str, Any]], None]
"""Takes a trial's figures so far, among them ``merit``: for Tune's own records. Tune chooses nothing by it."""
TrialWork = Callable[[Report, "Ranks | None"], None]
"""Runs one trial up to its rung and commits the result: alone (None), or as one of several processes."""
METRIC = "merit"
# Under which name a trial reports why it failed.
_FAILURE = "failure"


def run_trials(
    session: Session,
    stage: str,
    trials: Mapping[str, TrialWork],
    storage: Path,
    done: Callable[[], int] = lambda: 0,
) -> None:
    """Run all trials, as many side by side as there are workers; ``done`` counts those that have ended.

    Raises what a trial raised on purpose, InfrastructureError if one failed for good, or BudgetReached.
    """
    require_shared(session, storage.parent)
    workers = min(session.worker().count, len(trials))
    hang = replaced(stage, session.resources.hang_seconds, session.progress.root)
    with hang, session.progress.work(stage, len(trials), done(), workers, done) as work:
        for result in _fit(session, stage, trials, storage, work.seconds_allowed):
            if result.error is not None:
                raise translated(stage, result.error) from result.error
            if failure := (result.metrics or {}).get(_FAILURE):
                raise unpacked(stage, failure)
        work.look()


def _fit(session: Session, stage: str, trials: Mapping[str, TrialWork], storage: Path, seconds: float | None) -> Any:
    """Tune's results; after so many seconds those of trials that were stopped, too."""
    from ray import tune

    from fairsynth.engine.in_notebooks import silent
    from fairsynth.engine.retries import TrialRetries

    worker, root = session.worker(), session.progress.root
    beats = Beats(stage, session.resources.hang_seconds)
    run = tune.with_parameters(_run, trials=dict(trials), threads=worker.threads, beats=beats)
    return tune.Tuner(
        tune.with_resources(run, {"cpu": worker.cpus, "gpu": worker.gpus}),
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            max_concurrent_trials=worker.count,
            reuse_actors=True,
            time_budget_s=seconds,
        ),
        run_config=tune.RunConfig(
            **storage_of(storage),
            name="search",
            verbose=0,
            progress_reporter=silent(),
            failure_config=tune.FailureConfig(max_failures=session.resources.max_failures),
            callbacks=[TrialRetries(root, stage)] if root else None,
        ),
    ).fit()


def _run(space: Mapping[str, Any], trials: Mapping[str, TrialWork], threads: int, beats: Beats) -> None:
    """One trial inside Ray Tune."""
    import torch
    from ray import tune

    torch.set_num_threads(threads)
    try:
        with beats.at_work(space["trial"]):
            trials[space["trial"]](lambda figures: tune.report(dict(figures)), None)
    except Exception as error:
        again = isinstance(error, InfrastructureError) or not isinstance(error, FairsynthError)
        if again and not is_final(error):
            raise  # Ray tries again
        tune.report({_FAILURE: packed(error), METRIC: -1.0})

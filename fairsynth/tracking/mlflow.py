"""Curves as runs of MLflow: an experiment for the project, a run for each curve."""

from __future__ import annotations

from collections.abc import Sequence

from fairsynth.tracking.curves import Curve


def send(curves: Sequence[Curve], project: str, run: str, key: str, when: float) -> None:
    """Send each curve as a run, named after the output folder and the curve.

    ``key`` is a tag of all: runs that an interrupted call left under it are replaced.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client, at = MlflowClient(), round(1000 * when)
    known = client.get_experiment_by_name(project)
    experiment = known.experiment_id if known else client.create_experiment(project)
    for old in client.search_runs([experiment], f"tags.fairsynth_key = '{key}'"):
        client.delete_run(old.info.run_id)
    for curve in curves:
        started = client.create_run(experiment, at, {"fairsynth_key": key}, f"{run} {curve.name}").info.run_id
        points = [(figure, *point) for figure, some in curve.points.items() for point in some]
        metrics = [Metric(figure, value, at, step) for figure, step, value in points]
        facts = [Param(name, value[:500]) for name, value in curve.facts.items()]
        for start in range(0, max(1, len(metrics)), 900):  # a call takes 1,000 entries
            client.log_batch(started, metrics[start : start + 900], [] if start else facts[:90])
        client.set_terminated(started, end_time=at)

"""Curves as runs of Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairsynth.tracking.curves import Curve


def send(curves: Sequence[Curve], project: str, run: str, key: str, folder: Path) -> None:
    """Send each curve as a run of the group ``run``; files of the client go to ``folder``/wandb.

    The runs' ids follow from ``key``, so a second call does not make further ones.
    """
    import wandb

    for number, curve in enumerate(curves):
        name = f"{run} {curve.name}"
        with wandb.init(
            project=project,
            name=name,
            group=run,
            id=f"{key}-{number}",
            dir=str(folder),
            config=dict(curve.facts),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        ) as started:
            steps = sorted({step for points in curve.points.values() for step, _ in points})
            by_figure = {figure: dict(points) for figure, points in curve.points.items()}
            for step in steps:
                started.log({figure: some[step] for figure, some in by_figure.items() if step in some}, step=step)

"""Curves as TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairsynth.tracking.curves import Curve


def write(curves: Sequence[Curve], folder: Path, when: float) -> None:
    """Write a run of TensorBoard for each curve into a folder; ``when``: the time of all points, seconds since 1970."""
    from tensorboardX import SummaryWriter

    for curve in curves:
        with SummaryWriter(str(folder / curve.name)) as writer:
            for figure, points in curve.points.items():
                for step, value in points:
                    writer.add_scalar(figure, value, step, walltime=when)
            if curve.facts:
                writer.add_text("facts", "\n".join(f"    {key}: {value}" for key, value in curve.facts.items()))

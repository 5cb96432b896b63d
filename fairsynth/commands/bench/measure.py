"""Scores and cost of a cell's methods, from its finished stages."""

from __future__ import annotations

from fairsynth.artifacts import Artifact
from fairsynth.classify.methods import SYNTHETIC
from fairsynth.commands.bench.grid import Cell
from fairsynth.commands.bench.rows import Measured
from fairsynth.stages.context import Context
from fairsynth.stages.evaluate.output import read_predictions
from fairsynth.stages.synthesize.output import group_records


def measured(context: Context, cell: Cell) -> list[Measured]:
    """The cell's methods, once ``evaluate`` is finished."""
    from fairsynth.metrics import more_figures, score_methods

    predictions = read_predictions(context.artifacts["evaluate"], context.groups, context.config.tune.methods)
    more = more_figures(predictions, context.group_names[0])
    images, seconds = _generation(context)
    return [
        Measured(
            scores.name,
            cell.variant,
            cell.level,
            cell.repetition,
            scores,
            images if scores.name in SYNTHETIC else 0,
            (seconds if scores.name in SYNTHETIC else 0.0)
            + sum(context.artifacts[stage].record["worker_seconds"][scores.name] for stage in ("tune", "evaluate")),
            more[scores.name],
            cell.dataset,
            cell.validation,
        )
        for scores in score_methods(predictions, context.groups, context.train_counts)
    ]


def _generation(context: Context) -> tuple[int, float]:
    """Number of synthetic images made, and worker seconds (wall time x workers) of all stages up to them."""
    synthesized: Artifact | None = context.artifacts.get("synthesize")
    if synthesized is None:
        return 0, 0.0
    records = (context.artifacts[name].record for name in ("embed", "cluster", "finetune", "synthesize"))
    seconds = sum(record["seconds"] * record.get("workers", 1) for record in records)
    return sum(record.made for record in group_records(synthesized)), seconds

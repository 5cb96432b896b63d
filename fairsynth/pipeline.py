"""The table of contents: the stages in order, each a record of what names, makes and lays out its result.

``run(config)`` runs them all; ``run(config, only="cluster")`` runs one and expects the earlier ones to be finished. A
stage whose artifact is finished is not made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fairsynth.classify.methods import need_synthetic
from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.stages.audit import step as audit
from fairsynth.stages.cluster import step as cluster
from fairsynth.stages.context import Context, opened_for_work
from fairsynth.stages.embed import step as embed
from fairsynth.stages.evaluate import step as evaluate
from fairsynth.stages.finetune import step as finetune
from fairsynth.stages.ingest import step as ingest
from fairsynth.stages.report import step as report
from fairsynth.stages.stage import Done, Stage, find_finished, repaired, run_stage
from fairsynth.stages.synthesize import step as synthesize
from fairsynth.stages.synthesize import view as synthetic_view
from fairsynth.stages.tune import step as tune

_ALL = (
    # dataset -> manifest, quarantine
    Stage("ingest", ingest.artifact, ingest.make, before=ingest.before),
    # training and validation images -> CLIP vectors; training images -> VAE posteriors
    Stage("embed", embed.artifact, embed.make),
    # vectors -> clusters inside each group
    Stage("cluster", cluster.artifact, cluster.make),
    # clusters -> adapters
    Stage("finetune", finetune.artifact, finetune.make, finetune.show, curves=finetune.curves),
    # adapters -> balanced, filtered images
    Stage("synthesize", synthesize.artifact, synthesize.make, synthetic_view.show),
    # accepted images -> what they show, how real they are, whether they copy
    Stage("audit", audit.artifact, audit.make, audit.show),
    # real + synthetic -> best settings by validation worst-group accuracy
    Stage("tune", tune.artifact, tune.make, curves=tune.curves),
    # best settings x seeds -> test predictions
    Stage("evaluate", evaluate.artifact, evaluate.make),
    # everything -> report.html, report.json
    Stage("report", report.artifact, report.make, report.show),
)
STAGES = {stage.name: stage for stage in _ALL}
_NOTES = 20  # of a stage, on the terminal
# Needed only by methods that learn from synthetic images; the first two also where attributes are discovered.
_GENERATION = ("embed", "cluster", "finetune", "synthesize", "audit")


def needed(config: RunConfig, last: str) -> list[str]:
    """The stages up to ``last`` that its result depends on, in order."""
    names = list(STAGES)[: list(STAGES).index(last) + 1]
    if last not in ("tune", "evaluate") or need_synthetic(config.tune.methods, config.classify):
        return names
    left_out = _GENERATION[2:] if config.data.attribute == "discover" else _GENERATION
    return [name for name in names if name not in left_out]


@dataclass(frozen=True)
class Outcome:
    """Result of a run: the stages that it made, and those that it was to make and found finished."""

    made: tuple[str, ...]
    cached: tuple[str, ...]
    seconds: float


def run(
    config: RunConfig,
    only: str | None = None,
    say: Callable[[str], None] = print,
    metadata: Metadata | None = None,
    max_worker_hours: float | None = None,
) -> Outcome:
    """Run all stages, or one alone; finished ones are kept. ``metadata``: if it was read already.

    Raises ConfigError if ``only`` needs an earlier stage that has not been run, BudgetReached once ``max_worker_hours``
    are used, and whatever the stages raise (``fairsynth.errors``).
    """
    began = time.monotonic()
    with opened_for_work(config, metadata, max_worker_hours) as context:
        cached = through(context, only or list(STAGES)[-1], say, only)
    wanted = [only] if only else list(STAGES)
    made = tuple(name for name in wanted if name not in cached)
    return Outcome(made, tuple(cached), time.monotonic() - began)


def through(context: Context, last: str, say: Callable[[str], None], only: str | None = None) -> list[str]:
    """Run ``last`` and the stages it depends on; with ``only`` that one alone. Returns those that were finished before.

    What is found damaged is made anew, once. Raises as ``run`` does, and InfrastructureError for what is damaged again.
    """
    made = set[str]()
    cached = repaired(context, lambda: _through(context, last, say, only, made), say)
    return [name for name in cached if name not in made]


def _through(context: Context, last: str, say: Callable[[str], None], only: str | None, made: set[str]) -> list[str]:
    cached = []
    for name in needed(context.config, last):
        if only is not None and name != only:
            find_finished(context, STAGES[name], f"stage {only} needs the result of {{}}, which is")
            continue
        began = time.monotonic()
        done = run_stage(context, STAGES[name])
        cached += [name] if done.cached else []
        made |= set() if done.cached else {name}
        _tell(say, name, done, time.monotonic() - began)
    return cached


def _times(done: Done, seconds: float) -> str:
    """Of a stage's seconds those that its record has, as status and report say them; and all, where others were notable."""
    made = float(done.artifact.record["seconds"])
    text = f"{made:.1f} s"
    return text if seconds - made < 1 else f"{text}; {seconds:.1f} s with its preparation"


def _tell(say: Callable[[str], None], name: str, done: Done, seconds: float) -> None:
    say(f"{name:<10} {done.summary}" + ("" if done.cached else f" ({_times(done, seconds)})"))
    for remark in done.remarks[:_NOTES]:
        say(f"{'':<10} note: {remark}")
    if len(done.remarks) > _NOTES:
        say(f"{'':<10} and {len(done.remarks) - _NOTES} more notes: {done.artifact.path}/artifact.json")

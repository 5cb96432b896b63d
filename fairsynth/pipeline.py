"""The table of contents: the stages in order, each one call.

``Run(config).run()`` does them all; ``Run(config).run(only="cluster")`` does one and expects the
earlier ones to be there. A stage whose artifact exists is not touched again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairsynth.artifacts import Artifact
from fairsynth.classify.methods import SYNTHETIC
from fairsynth.config import RunConfig
from fairsynth.data.reading import Reading
from fairsynth.engine.session import session_of
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.stages.audit import step as audit
from fairsynth.stages.context import Context, Done
from fairsynth.stages.finetune import step as finetune
from fairsynth.stages.ingest import step as prepare
from fairsynth.stages.report import step as report
from fairsynth.stages.synthesize import step as synthesize
from fairsynth.stages.tune import step as classify

STAGES: dict[str, Callable[[Context], Done]] = {
    "ingest": prepare.ingest,  # dataset -> manifest, quarantine
    "embed": prepare.embed,  # training images -> CLIP vectors, VAE posteriors
    "cluster": prepare.cluster,  # vectors -> clusters inside each group
    "finetune": finetune.finetune,  # clusters -> adapters
    "synthesize": synthesize.synthesize,  # adapters -> balanced, filtered images
    "audit": audit.audit,  # accepted images -> what they show, how real they are, whether they copy
    "tune": classify.tune,  # real + synthetic -> best settings by validation WGA
    "evaluate": classify.evaluate,  # best settings x seeds -> test predictions
    "report": report.report,  # everything -> report.html, report.json
}


# What only methods that learn from synthetic images need; the first two also attributes that are to be discovered.
_GENERATION = ("embed", "cluster", "finetune", "synthesize", "audit")


def needed(config: RunConfig, last: str) -> list[str]:
    """The stages up to ``last`` that its result depends on, in order."""
    names = list(STAGES)[: list(STAGES).index(last) + 1]
    if last not in ("tune", "evaluate") or not SYNTHETIC.isdisjoint(config.tune.methods):
        return names
    left_out = _GENERATION[2:] if config.data.attribute == "discover" else _GENERATION
    return [name for name in names if name not in left_out]


@dataclass(frozen=True)
class Outcome:
    """What a run did: its artifacts by stage, and the names of the stages that were found finished."""

    artifacts: dict[str, Artifact]
    cached: tuple[str, ...]
    seconds: float


def run(
    config: RunConfig,
    only: str | None = None,
    say: Callable[[str], None] = print,
    reading: Reading | None = None,
) -> Outcome:
    """Run all stages, or one alone; finished ones are kept. ``reading``: the metadata, if it was read already.

    Raises ConfigError if ``only`` needs an earlier stage that has not been run, and whatever the
    stages raise (``fairsynth.errors``).
    """
    began = time.monotonic()
    with session_of(config.resources) as session:
        context = Context(config, Path(config.out).expanduser().resolve(), session, reading=reading)
        cached = through(context, only or "report", say, only)
    return Outcome(context.artifacts, tuple(cached), time.monotonic() - began)


def through(context: Context, last: str, say: Callable[[str], None], only: str | None = None) -> list[str]:
    """Run the stages that ``last`` depends on, and it; with ``only`` that one alone. Returns those found finished.

    Raises as ``run`` does.
    """
    cached = []
    for name in needed(context.config, last):
        started, step = time.monotonic(), STAGES[name]
        if only is not None and name != only:
            _require(context, name, step, only)
        else:
            done = step(context)
            context.artifacts[name] = done.artifact
            cached += [name] if done.cached else []
            _tell(say, name, done, time.monotonic() - started)
    return cached


def _tell(say: Callable[[str], None], name: str, done: Done, seconds: float) -> None:
    say(f"{name:<10} {done.summary}" + ("" if done.cached else f" ({seconds:.1f} s)"))
    for remark in done.remarks:
        say(f"{'':<10} note: {printable(remark)}")


def _require(context: Context, name: str, step: Callable[[Context], Done], only: str) -> None:
    context.lookup_only = True
    try:
        done = step(context)
    finally:
        context.lookup_only = False
    if not done.artifact.finished:
        raise ConfigError(
            f"stage {only} needs the result of {name}, which is not in {context.root} for this config; "
            f"run 'fairsynth {name}' with the same options first (or 'fairsynth run' for everything)"
        )
    context.artifacts[name] = done.artifact

"""A stage, and how to run it: name its artifact, make it unless it is finished, lay it out for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from fairsynth.artifacts import Artifact, Counts, take_back
from fairsynth.errors import ConfigError, DamagedError, InfrastructureError
from fairsynth.escaping import printable
from fairsynth.exhausted import told_if_exhausted
from fairsynth.run_folder.records import diagnosed
from fairsynth.stages.context import Context
from fairsynth.tracking.curves import Curve
from fairsynth.tracking.write import track
from fairsynth.work import Ran

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """Result of a stage: counts of the images it looked at, a line for people, and further facts of its record.

    ``digest``: of the content, where later stages depend on it alone. ``facts`` may hold ``remarks``, lines for people.
    """

    counts: Counts
    summary: str
    ran: Ran = field(default_factory=Ran)
    digest: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A stage's finished artifact, one line for a terminal, and remarks for people."""

    artifact: Artifact
    summary: str
    cached: bool
    remarks: tuple[str, ...] = ()


def _nothing(context: Context) -> None:
    """No preparation."""


def _no_curves(artifact: Artifact) -> Sequence[Curve]:
    """Nothing to track."""
    return ()


def _not_shown(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Nothing for people."""


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    ``artifact`` names the result, from config and inputs alone, and writes nothing. ``make`` fills the artifact's open
    folder. ``show`` lays a finished artifact out for people: always if it was made just now (``fresh``), else unless it
    is laid out already. ``before`` prepares what the name needs. ``curves`` are what trackers get of a finished artifact.
    """

    name: str
    artifact: Callable[[Context], Artifact]
    make: Callable[[Context, Artifact], Made]
    show: Callable[[Context, Artifact, bool], None] = _not_shown
    before: Callable[[Context], None] = _nothing
    curves: Callable[[Artifact], Sequence[Curve]] = _no_curves


def run_stage(context: Context, stage: Stage) -> Done:
    """Run a stage unless it is finished; either way its artifact is then in the context and laid out for people."""
    with (
        context.stage(stage.name) as finished,
        told_if_exhausted(context.root, stage.name),
        diagnosed(lambda: [one.path for one in context.artifacts.values()]),
    ):
        stage.before(context)
        artifact = stage.artifact(context)
        if artifact.finished:
            done = Done(artifact, f"nothing to do: {artifact.record.get('summary', '')}", cached=True)
        else:
            done = _made(context, stage, artifact)
        stage.show(context, artifact, not done.cached)
        wrong = track(context.root, context.config.tracking, artifact, partial(stage.curves, artifact))
        if wrong:
            done = replace(done, remarks=(*done.remarks, f"not tracked: {printable(wrong)}"))
        finished(artifact.name, artifact.record, done.cached)
    context.artifacts[stage.name] = artifact
    return done


def repaired(context: Context, work: Callable[[], T], say: Callable[[str], None]) -> T:
    """Do the work of stages; what is found damaged on the way is made anew, once, and told.

    Raises InfrastructureError for what is damaged again.
    """
    known = set[tuple[str, ...]]()
    while True:
        try:
            return work()
        except DamagedError as damaged:
            if damaged.place in known:
                raise InfrastructureError(
                    f"{damaged}, after it was made anew; check the disk or the store"
                ) from damaged
            known.add(damaged.place)
            take_back(context.root, *damaged.place)
            context.artifacts.clear()
            say(f"note: {printable(str(damaged))}; its stage makes it anew")


def _made(context: Context, stage: Stage, artifact: Artifact) -> Done:
    """Make an artifact and write its record; start-up is Ray's own plus the workers' until their first result."""
    context.session.look()  # not after an hour of the work that needs no Ray
    began, ray_before = time.monotonic(), context.session.startup_seconds
    artifact.open()
    made = stage.make(context, artifact)
    startup = context.session.startup_seconds - ray_before + made.ran.startup_seconds
    artifact.finish(
        made.counts,
        time.monotonic() - began,
        made.digest,
        startup_seconds=round(startup, 2),
        workers=context.session.workers,
        units=made.ran.made + made.ran.cached,
        cached=made.ran.cached,
        summary=made.summary,
        **made.facts,
    )
    return Done(artifact, made.summary, cached=False, remarks=tuple(map(printable, made.facts.get("remarks", ()))))


def check_prompts(context: Context) -> None:
    """Before a stage uses a GPU for images that are to be made: are all prompts read to their ends?

    Raises DataError for one that is not. Tokenizers are loaded, no weights.
    """
    from fairsynth.models.hub.prompts import check_prompts

    check_prompts(context.config, *context.group_names)


def find_finished(context: Context, stage: Stage, why: str) -> Artifact:
    """The stage's artifact, which must be finished; puts it into the context.

    Raises ConfigError that names the command to run first. ``why`` begins its sentence, with ``{}`` for the stage.
    """
    artifact = stage.artifact(context)
    if not artifact.finished:
        raise ConfigError(
            f"{why.format(stage.name)} not in {context.root} for this config; "
            f"run 'fairsynth {stage.name}' with the same options first (or 'fairsynth run' for everything)"
        )
    context.found(artifact)
    context.artifacts[stage.name] = artifact
    return artifact

"""Which stages a config names anew: computed from finished artifacts that hold nothing but a record, without running any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from fairsynth.artifacts import STAGES, Artifact, Counts, Identity
from fairsynth.config import RunConfig
from fairsynth.engine.session import Session
from fairsynth.pipeline import STAGES as PIPELINE
from fairsynth.stages.context import Context

# What the report's name reads of the records of ingest and cluster.
_FACTS = {"reasons": {}, "severity": None, "remarks": []}


def leaves(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every setting, dotted; sections are walked into."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def finished(root: Path, stage: str, digest: str) -> Artifact:
    """A stage's finished artifact whose content has this digest."""
    artifact = Artifact(root, Identity(stage, 0, {}, {}, {"content": digest}))
    if not artifact.finished:
        artifact.open()
        artifact.finish(Counts(), 0, digest, **_FACTS)
    return artifact


def names(config: RunConfig, root: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """The fingerprint that each stage's artifact has by this config, where earlier stages left these contents."""
    found = {}
    context = Context(config, root, Session(config.resources))
    for stage in STAGES:
        found[stage] = PIPELINE[stage].artifact(context).fingerprint
        context.artifacts[stage] = finished(root, stage, digests[stage])
    return found


def read_by(before: RunConfig, after: RunConfig, root: Path) -> set[str]:
    """The stages that read what differs: those named anew though all earlier stages left what they had left."""
    same = dict.fromkeys(STAGES, "same")
    one, other = (names(config, root, same) for config in (before, after))
    return {stage for stage in STAGES if one[stage] != other[stage]}


def redone(before: RunConfig, after: RunConfig, root: Path) -> set[str]:
    """The stages that a run by ``after`` makes again where one by ``before`` has finished, if what is made again differs."""
    one, changed = names(before, root, dict.fromkeys(STAGES, "same")), set[str]()
    while True:
        digests = {stage: "other" if stage in changed else "same" for stage in STAGES}
        other = names(after, root, digests)
        found = {stage for stage in STAGES if one[stage] != other[stage]}
        if found == changed:
            return found
        changed = found

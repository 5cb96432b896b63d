"""Stages of the pipeline in the tests' own process, which has imported what they need: several of them on one Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fairsynth import pipeline
from fairsynth.commands.settled import settled
from fairsynth.config import ResourcesConfig
from fairsynth.config.load import load_config
from fairsynth.engine.session import session_of
from fairsynth.stages.context import opened_for_work


@contextmanager
def one_ray() -> Iterator[None]:
    """A Ray for all that is done meanwhile in this process."""
    with session_of(ResourcesConfig()) as session:
        session.connect()
        yield


def through(last: str, settings: Mapping[str, object], preset: str = "demo") -> None:
    """The stages up to ``last``, as the command does them; those that are finished are kept."""
    with opened_for_work(settled(load_config(preset=preset, overrides=dict(settings)))) as context:
        pipeline.through(context, last, say=lambda line: None)

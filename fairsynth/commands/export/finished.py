"""The stages of a config that an export reads, as a run left them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fairsynth.artifacts import Artifact
from fairsynth.config import RunConfig
from fairsynth.data.dataset import Dataset
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.hub.pinning import pinned
from fairsynth.pipeline import STAGES, needed
from fairsynth.preflight import worded
from fairsynth.stages.context import Context, opened
from fairsynth.stages.stage import find_finished
from fairsynth.store.mirror import place_of


@contextmanager
def finished_stages(config: RunConfig) -> Iterator[tuple[Context, Artifact | None]]:
    """The stages up to synthesize of this config, and its audit if there is one; nothing here connects to Ray.

    Raises ConfigError that names the command whose result is missing.
    """
    metadata = Dataset(config.data).metadata if config.data.format != "demo" else None
    with opened(pinned(worded(with_base(config), metadata)), metadata) as context:
        if place_of(context.root):  # the built-in dataset, which names all that follows, is written by each machine
            STAGES["ingest"].before(context)
        for name in needed(config, "synthesize"):
            find_finished(context, STAGES[name], "nothing to export yet: the result of {} is")
        audited = STAGES["audit"].artifact(context)
        yield context, audited if audited.finished else None

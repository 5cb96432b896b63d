"""What the network is told of all prompts of a stage: encoded once, by one worker, in a unit that all others read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fairsynth.artifacts import Units
from fairsynth.config import ModelsConfig
from fairsynth.models.sources import is_demo
from fairsynth.stages.finetune.output import TEXTS_UNIT
from fairsynth.work import Ran, RunUnits, Work

if TYPE_CHECKING:
    from fairsynth.models.families.conditions import Conditions


class EncodedTexts:
    """Makes the unit of texts: ``__call__`` returns a table with every prompt's tensors."""

    def __init__(self, models: ModelsConfig, texts: Sequence[str]) -> None:
        self.models, self.texts = models, texts

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        from fairsynth.models.texts import encoded, table_of

        return {"texts": table_of(encoded(self.models, self.texts))}


def told_first(run: RunUnits, units: Units, models: ModelsConfig, texts: Sequence[str]) -> RunUnits:
    """``run``, before whose first work one worker encodes all texts.

    Not of a model in the package: its encoders are read sooner than a worker starts.
    """
    if is_demo(models.diffusion) or not texts:
        return run

    def made(names: Sequence[str], make: Callable[[], Work]) -> Ran:
        if units.has(TEXTS_UNIT) or units.done().issuperset(names):
            return run(names, make)
        began = run([TEXTS_UNIT], partial(EncodedTexts, models, texts))
        return run(names, make) + Ran(startup_seconds=began.startup_seconds)

    return made


def known_texts(units: Units, wanted: Collection[str]) -> dict[str, Conditions]:
    """What the unit of texts says of these; of a run that began before there was one, nothing."""
    from fairsynth.models.texts import TEXTS_FILE, read_table

    return read_table(units.large(TEXTS_UNIT) / TEXTS_FILE, wanted) if units.has(TEXTS_UNIT) else {}

"""The plan says whether compiling pays, by the same rule as the stage."""

from __future__ import annotations

import pytest

from fairsynth.commands.plan.adapters import compile_notes, plan_adapters
from fairsynth.config.load import load_config
from fairsynth.groups import Group
from fairsynth.stages.finetune.compiling import COMPILED, PLAIN

TRAIN = {Group("a", "x"): 400, Group("b", "x"): 400}


def notes(workers: int = 1, **given: object) -> tuple[str, ...]:
    settings = {"cluster.k": 6, "shared.steps": 7, **{name.replace("__", "."): value for name, value in given.items()}}
    config = load_config(None, None, settings)
    return compile_notes(config, plan_adapters(config, TRAIN), workers)


def test_long_trainings_are_compiled_and_what_that_saves_is_said() -> None:
    # Twelve adapters of 2000 steps with four images and four of the prior.
    samples = 12 * 2000 * 8
    (found,) = notes(finetune__steps=2000)
    whole = samples / PLAIN - samples / COMPILED
    assert found.startswith(
        f"finetune compiles its network on GPUs: 110 s on each worker, which save {whole:,.0f} s of training"
    )


def test_short_ones_are_not_and_from_when_on_it_pays_is_said() -> None:
    (found,) = notes(finetune__steps=400, workers=2)
    assert "that pays from 62,623 samples of a worker on, and here are 19,200 (" in found
    assert notes(finetune__steps=2000, workers=12) != notes(finetune__steps=2000)


@pytest.mark.parametrize(
    "given",
    [
        {"resources__compile": "always"},
        {"resources__compile": "never"},
        {"models__shapes": "buckets"},
        {"finetune__parameters": "full"},
        {"finetune__generator": "vanilla"},
        {"models__diffusion": "demo"},
    ],
    ids=str,
)
def test_nothing_is_said_where_nothing_is_decided(given: dict[str, object]) -> None:
    assert notes(**given) == ()

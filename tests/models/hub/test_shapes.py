"""The shapes of a base model's images: known from its description, as multiples of what it can make."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import ModelsConfig
from fairsynth.data.shapes import buckets
from fairsynth.models.hub.shapes import shapes_of
from tests.support.models.pipelines import described


def test_with_squares_alone_no_model_is_looked_at() -> None:
    assert shapes_of(ModelsConfig(diffusion="./nowhere")) == ()


@pytest.mark.parametrize("name", ["demo", "demo-flow"])
def test_sides_are_what_the_model_can_make_and_diffusers_takes(name: str) -> None:
    found = shapes_of(ModelsConfig(diffusion=name, image_size=32, shapes="buckets"))
    # Their own factor is 4.
    assert found == buckets(32, 8) and len(found) == 5


def test_a_model_that_does_not_say_gets_sides_that_any_can_make(tmp_path: Path) -> None:
    found = shapes_of(ModelsConfig(diffusion=str(described(tmp_path / "own")), image_size=512, shapes="buckets"))
    assert found == buckets(512, 64) and all(side % 64 == 0 for shape in found for side in shape)

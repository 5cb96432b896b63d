"""What a card tells of a base model of each family: the code that it shows makes the same image again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from fairsynth.config.load import load_config
from fairsynth.exports.base_facts import base_facts
from fairsynth.exports.dataset_card import dataset_card
from fairsynth.models.families.table import FAMILIES
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.sources import demo_folder
from tests.support.cards import facts
from tests.support.models import tiny_sdxl
from tests.support.models.plain_images import generate
from tests.support.models.tiny_flux2 import tiny_flux2
from tests.support.models.tiny_sd3 import tiny_sd3
from tests.support.models.tiny_zimage import tiny_zimage

SIZE, STEPS = 64, 3
ROW: dict[str, Any] = {"prompt": "a red bird", "negative_prompt": "a blue sea", "guidance": 3.5, "seed": 11}
PIPELINES: dict[str, Callable[[], Any]] = {
    "sd": lambda: StableDiffusionPipeline.from_pretrained(demo_folder("diffusion"), safety_checker=None),
    "sdxl": tiny_sdxl.pipeline,
    "sd3": tiny_sd3,
    "flux2": tiny_flux2,
    "zimage": tiny_zimage,
}


def test_there_is_one_of_each_family() -> None:
    assert {family.name for family in FAMILIES.values()} == PIPELINES.keys()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_code_of_the_card_makes_the_image_again(name: str, tmp_path: Path) -> None:
    pipeline = PIPELINES[name]()
    pipeline.save_pretrained(tmp_path)
    base = base_facts(with_base(load_config(None, None, {"models.diffusion": str(tmp_path)})))
    told = {"scheduler": base.scheduler, "guidance_option": base.guidance, "negative_option": base.negative}
    card = dataset_card(
        facts(diffusion=str(tmp_path), pipeline=base.pipeline, tag=base.tag, steps=STEPS, image_size=SIZE, **told),
        "folder",
    )
    assert f"in `pipeline` the {type(pipeline).__name__} of `base` with a {base.scheduler}" in card
    own = generate(
        pipeline, [ROW["prompt"]], [ROW["negative_prompt"]], [ROW["seed"]], SIZE, STEPS, ROW["guidance"]
    )  # fmt: skip
    pipeline.scheduler = getattr(diffusers, base.scheduler).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    names: dict[str, Any] = {"row": ROW, "pipeline": pipeline}
    exec(card.split("```python\nimport torch")[1].split("```")[0], names | {"torch": __import__("torch")}, names)
    assert np.abs(np.asarray(names["image"]).astype(int) - own[0].astype(int)).max() <= 1
    assert own.std() > 5

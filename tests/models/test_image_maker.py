"""Making images from rows: merged, stacked, weaker, late or two adapters, each against an independent computation."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel

from fairsynth.data.shapes import Shape
from fairsynth.models.adapters import FILE_NAME
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.schedule import stackable
from tests.support.models.making_images import (
    GUIDANCE,
    MODELS,
    NAMES,
    PROMPT,
    STEPS,
    Images,
    Row,
    adapters,
    furthest,
    made,
    maker,
    row,
)

__all__ = ["adapters", "maker"]


@pytest.fixture(scope="module")
def plain() -> StableDiffusionPipeline:
    """Plain diffusers, where nothing of ours runs."""
    return load_pipeline(MODELS)


@pytest.mark.parametrize("shape", [Shape(40, 24), Shape(24, 40)])
def test_images_of_another_shape_are_those_of_plain_diffusers_merged_or_stacked(
    plain: StableDiffusionPipeline, maker: ImageMaker, adapters: Path, shape: Shape
) -> None:
    rows = [row(name, 5 + number) | shape._asdict() for number, name in enumerate(("a", "b", "a"))]
    found = maker(rows)
    assert found.shape == (3, *shape, 3) and found.dtype == np.uint8
    for place, one in enumerate(rows):
        alone = maker([one]).astype(int)
        assert furthest(found[place], alone[0]) <= 1
        assert furthest(alone, by_diffusers(plain, adapters, [one], **{one["adapter"]: 1.0})) <= 1
    with pytest.raises(ValueError, match="rows of different height or width cannot share a batch"):
        maker([rows[0], row("a", 5)])


def by_diffusers(
    plain: StableDiffusionPipeline, adapters: Path, rows: Sequence[Row], begins: int = 0, **strengths: float
) -> Images:
    """Images of plain diffusers with these adapters from a step on, each value in 0..255, not rounded."""

    def step_end(pipeline: StableDiffusionPipeline, index: int, *_: Any) -> dict[str, Any]:
        if strengths and index + 1 == begins:
            pipeline.enable_lora()
        return {}

    plain.scheduler = DPMSolverMultistepScheduler.from_config(plain.scheduler.config)
    try:
        for name in strengths:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of the first beside the second
                plain.load_lora_weights(adapters / name, weight_name=FILE_NAME, adapter_name=name)
        if strengths:
            plain.set_adapters(list(strengths), list(strengths.values()))
            if begins:
                plain.disable_lora()
        images = plain(
            [r["prompt"] for r in rows],
            negative_prompt=[r["negative_prompt"] for r in rows],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator("cpu").manual_seed(r["seed"]) for r in rows],
            height=rows[0].get("height", 32),
            width=rows[0].get("width", 32),
            output_type="np",
            callback_on_step_end=step_end,
        ).images
    finally:
        plain.unload_lora_weights()
    return images * 255


def test_one_adapters_rows_are_what_plain_diffusers_makes_of_its_file(
    maker: ImageMaker, plain: StableDiffusionPipeline, adapters: Path
) -> None:
    base = made(maker, [row(None, 1), row(None, 2)])
    assert furthest(base, by_diffusers(plain, adapters, [row(None, 1), row(None, 2)])) <= 1
    found = {}
    for name in NAMES:
        rows = [row(name, 1), row(name, 2)]
        found[name] = made(maker, rows)
        assert furthest(found[name], by_diffusers(plain, adapters, rows, **{name: 1.0})) <= 1
        assert abs(found[name] - base).max((1, 2, 3)).min() > 10, "an adapter that changes nothing proves nothing"
    assert furthest(found["a"], found["b"]) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "begins", "strengths"),
    [
        ({"adapter_scale": 0.5}, 0, {"a": 0.5}),
        ({"second_adapter": "b", "adapter_scale": 0.5}, 0, {"a": 0.5, "b": 0.5}),
        ({"second_adapter": "b"}, 0, {"a": 1.0, "b": 1.0}),
        ({"adapter_from": 0.5}, 3, {"a": 1.0}),
        ({"adapter_from": 0.5, "second_adapter": "b", "adapter_scale": 0.5}, 3, {"a": 0.5, "b": 0.5}),
        # Of six steps 0.4 are 2.4: the third is not over yet.
        ({"adapter_from": 0.4}, 3, {"a": 1.0}),
        ({"adapter_from": 1.0}, 6, {"a": 1.0}),
    ],
    ids=str,
)
def test_weaker_late_and_two_adapters_are_what_plain_diffusers_makes_of_their_files(
    maker: ImageMaker,
    plain: StableDiffusionPipeline,
    adapters: Path,
    more: Row,
    begins: int,
    strengths: dict[str, float],
) -> None:
    rows = [row("a", 3, **more), row("a", 4, **more)]
    ours = made(maker, rows)
    assert furthest(ours, by_diffusers(plain, adapters, rows, begins, **strengths)) <= 1
    base = made(maker, [row(None, 3), row(None, 4)])
    assert (furthest(ours, base) > 10) == (begins < STEPS)
    assert furthest(ours, made(maker, [row("a", 3), row("a", 4)])) > 10


@pytest.mark.slow
def test_whatever_was_made_before_the_base_model_gives_the_same_image(maker: ImageMaker) -> None:
    weights = {name: value.clone() for name, value in ImageMaker(MODELS, maker.sampling, maker.adapters).pipeline.unet.state_dict().items()}  # fmt: skip
    plain_rows = [row(None, 5), row(None, 6)]
    first = made(maker, plain_rows)
    for rows in (
        [row("a", 1)],
        [row("a", 1, adapter_scale=0.5)],
        [row("a", 1, second_adapter="b")],
        [row("a", 1, adapter_from=0.5)],
        [row("a", 1), row("b", 2)],
        [row("a", 1), row("a", 2), row("c", 2)],
    ):
        made(maker, rows)
        assert (made(maker, plain_rows) == first).all()
        now = maker.pipeline.unet.state_dict()
        assert now.keys() == weights.keys() and all(torch.equal(now[name], weights[name]) for name in weights)


def test_a_late_adapter_is_not_in_the_first_steps_whatever_was_in_use_before(maker: ImageMaker) -> None:
    rows = [row("a", 1, adapter_from=0.5)]
    made(maker, [row(None, 1)])
    after_base = made(maker, rows)
    made(maker, [row("b", 1)])
    assert (made(maker, rows) == after_base).all()
    assert (made(maker, rows) == after_base).all()
    made(maker, [row("a", 1)])
    assert (made(maker, rows) == after_base).all()


RAGGED = ("b", "a", "a", "c", "a", "b", "a")


def test_rows_of_several_adapters_in_one_pass_are_those_of_each_adapter_alone(maker: ImageMaker) -> None:
    rows = [row(name, 50 + i, prompt=f"{PROMPT} {i % 2}", guidance=1.0 + i) for i, name in enumerate(RAGGED)]
    batched = made(maker, rows)
    alone = np.concatenate([made(maker, [one]) for one in rows])
    assert furthest(batched, alone) <= 1
    for one, other in itertools.combinations(range(len(rows)), 2):
        assert furthest(batched[one], batched[other]) > 10
    # In another order the rows are what they were.
    order = [3, 0, 6, 1, 5, 2, 4]
    assert furthest(made(maker, [rows[i] for i in order]), batched[order]) <= 1


def test_several_adapters_take_one_pass_of_the_unet(maker: ImageMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain_forward = UNet2DConditionModel.forward

    def forward(self: UNet2DConditionModel, sample: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(sample))
        return plain_forward(self, sample, *rest, **more)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    maker([row(name, i) for i, name in enumerate(RAGGED)])
    # Each of three is filled up to the four rows of the largest, and guidance doubles them.
    assert sizes == [3 * 4 * 2] * STEPS


@pytest.mark.parametrize(
    "odd",
    [
        {"adapter": None},
        {"adapter": "b", "adapter_scale": 0.5},
        {"adapter": "b", "second_adapter": "c"},
        {"adapter": "b", "adapter_from": 0.5},
    ],
    ids=str,
)
def test_rows_that_cannot_share_a_pass_are_refused(maker: ImageMaker, odd: Row) -> None:
    assert stackable(row("a", 1)) and not stackable(row("a", 1) | odd)
    for rows in ([row("a", 1), row("a", 1) | odd], [row("a", 1) | odd, row("a", 1)]):
        with pytest.raises(ValueError, match="share a batch only if each has one plain adapter"):
            maker(rows)


@pytest.mark.parametrize("other", ["wide", "strong"])
def test_adapters_of_another_shape_run_alone_but_share_no_pass(
    maker: ImageMaker, plain: StableDiffusionPipeline, adapters: Path, other: str
) -> None:
    with pytest.raises(ValueError, match="different rank, alpha or layers"):
        maker([row("a", 1), row(other, 1)])
    ours = made(maker, [row(other, 1)])
    assert furthest(ours, by_diffusers(plain, adapters, [row(other, 1)], **{other: 1.0})) <= 1

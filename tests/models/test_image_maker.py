"""Making images from rows: merged, stacked, weaker, late or two adapters, each against an independent computation."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.models import image_maker
from fairsynth.models.adapters import FILE_NAME, save_adapter
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.image_maker import ImageMaker, stackable
from fairsynth.models.schedule import Sampling
from fairsynth.models.stacked import StackedAdapters

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1")
RANK, ALPHA, STEPS, GUIDANCE = 4, 8, 6, 3.0
NAMES = ("a", "b", "c")
PROMPT, NEGATIVE = "a photo of a low number on a building", "blur"
Images = NDArray[Any]
Row = dict[str, Any]


def write_adapters(folder: Path, names: Sequence[str], rank: int = RANK, alpha: int = ALPHA) -> Path:
    """Adapters that change an image, a different one per name, as finetune leaves them."""
    stack = StackedAdapters(load_pipeline(MODELS).unet, rank, alpha, TARGETS)
    for name in names:
        generator = torch.Generator().manual_seed(sum(name.encode()))
        state = stack.state(torch.randn(stack.size, generator=generator) * 0.05)
        (folder / name).mkdir(parents=True)
        save_adapter(state, folder / name, rank, alpha, TARGETS, {})
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three adapters, and one of another rank."""
    folder = write_adapters(tmp_path_factory.mktemp("adapters"), NAMES)
    write_adapters(folder, ["wide"], rank=2 * RANK)
    return write_adapters(folder, ["strong"], alpha=2 * ALPHA)


@pytest.fixture(scope="module")
def maker(adapters: Path) -> ImageMaker:
    """What is tested."""
    return ImageMaker(MODELS, Sampling(STEPS), adapters)


@pytest.fixture(scope="module")
def plain() -> StableDiffusionPipeline:
    """Plain diffusers, where nothing of ours runs."""
    return load_pipeline(MODELS)


def row(adapter: str | None, seed: int, **more: Any) -> Row:
    """How an image is to be made."""
    return {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "guidance": GUIDANCE,
        "seed": seed,
        "adapter": adapter,
        "adapter_scale": 1.0,
        "second_adapter": None,
        "adapter_from": 0.0,
    } | more


def made(maker: ImageMaker, rows: Sequence[Row]) -> Images:
    """Images as numbers that can be subtracted."""
    found = maker(rows)
    assert found.dtype == np.uint8 and found.shape == (len(rows), 32, 32, 3)
    return found.astype(int)


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
            height=32,
            width=32,
            output_type="np",
            callback_on_step_end=step_end,
        ).images
    finally:
        plain.unload_lora_weights()
    return images * 255


def furthest(ours: Images, theirs: Images) -> float:
    """The largest difference of two values, in levels of 255."""
    return float(np.abs(ours - theirs).max())


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
    together = made(maker, rows)
    alone = np.concatenate([made(maker, [one]) for one in rows])
    assert furthest(together, alone) <= 1
    for one, other in itertools.combinations(range(len(rows)), 2):
        assert furthest(together[one], together[other]) > 10
    # In another order the rows are what they were.
    order = [3, 0, 6, 1, 5, 2, 4]
    assert furthest(made(maker, [rows[i] for i in order]), together[order]) <= 1


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


def test_a_folder_without_weights_is_named(maker: ImageMaker) -> None:
    before = made(maker, [row(None, 1)])
    for rows in ([row("gone", 1)], [row("a", 1, second_adapter="gone")], [row("a", 1), row("gone", 1)]):
        with pytest.raises(ValueError, match=r"there are no weights in .*gone"):
            maker(rows)
    assert (made(maker, [row(None, 1)]) == before).all()


def test_a_whole_unet_is_taken_up_and_left_again(maker: ImageMaker, adapters: Path) -> None:
    other = UNet2DConditionModel.from_config(maker.pipeline.unet.config)
    generator = torch.Generator().manual_seed(0)
    for value, base in zip(other.parameters(), maker.pipeline.unet.parameters(), strict=True):
        noise = torch.randn(base.shape, generator=generator)
        value.data = base.detach() + 0.1 * base.detach().abs().mean() * noise
    other.save_pretrained(adapters / "whole")
    before, ours = made(maker, [row(None, 1)]), made(maker, [row("whole", 1)])
    alone = ImageMaker(MODELS, maker.sampling, adapters)
    alone.pipeline.unet.load_state_dict(other.state_dict())
    assert furthest(ours, made(alone, [row(None, 1)])) == 0
    assert furthest(ours, before) > 10
    assert (made(maker, [row(None, 1)]) == before).all()
    with pytest.raises(ValueError, match="no adapter written by fairsynth"):
        maker([row("a", 1), row("whole", 1)])


def test_every_text_is_encoded_once_and_alone(adapters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[tuple[str, ...]] = Counter()
    plain_encode = image_maker.encode_prompts

    def encode(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> torch.Tensor:
        calls[tuple(prompts)] += 1
        return plain_encode(pipeline, prompts)

    monkeypatch.setattr(image_maker, "encode_prompts", encode)
    own = ImageMaker(MODELS, Sampling(1), adapters)
    for rows in (
        [row("a", 1), row("a", 2, prompt="x"), row("a", 3)],
        [row(None, 1, negative_prompt="x")],
        [row("a", 1), row("b", 1)],
    ):
        own(rows)
    assert calls == {(PROMPT,): 1, ("x",): 1, (NEGATIVE,): 1}


def test_nothing_is_read_twice_for_adapters_that_are_known(adapters: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).write_bytes((adapters / name / FILE_NAME).read_bytes())
    own = ImageMaker(MODELS, Sampling(2), tmp_path)
    rows = [row("a", 1), row("b", 1)]
    first = made(own, rows)
    for name in ("a", "b"):
        (tmp_path / name / FILE_NAME).unlink()
    assert (made(own, rows) == first).all()


def test_what_is_kept_in_memory_is_bounded_and_forgetting_changes_nothing(
    adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ImageMaker(MODELS, Sampling(2), adapters)
    rows = [row(name, i, prompt=f"{i}") for i, name in enumerate(NAMES)]
    first = made(own, rows)
    monkeypatch.setattr(image_maker, "_KEPT", 2)
    assert (made(own, rows) == first).all()
    # What a batch needs is there, and not all that came before.
    for i in range(6):
        own([row(None, 1, prompt=f"other {i}")])
    assert len(own.texts) <= 3 and len(own.states) <= 3

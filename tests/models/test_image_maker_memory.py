"""What an image maker keeps: whole UNets, texts and adapters are taken up once, and forgetting changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from fairsynth.models import image_maker
from fairsynth.models import texts as texts_module
from fairsynth.models.adapters import FILE_NAME
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.schedule import Sampling
from tests.support.models.making_images import MODELS, NAMES, NEGATIVE, PROMPT, adapters, furthest, made, maker, row

__all__ = ["adapters", "maker"]


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
    plain_encode = texts_module.encode_prompts

    def encode(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> Conditions:
        calls[tuple(prompts)] += 1
        return plain_encode(pipeline, prompts)

    monkeypatch.setattr(texts_module, "encode_prompts", encode)
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
    monkeypatch.setattr(texts_module, "_KEPT", 2)
    assert (made(own, rows) == first).all()
    # What a batch needs is there, and not all that came before.
    for i in range(6):
        own([row(None, 1, prompt=f"other {i}")])
    assert len(own.texts) <= 4 and len(own.states) <= 3

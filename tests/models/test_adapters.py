"""Files of weights on the demo's real pipeline: every form of an adapter gives the same image, and files of others are refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fairsynth.models import adapters
from fairsynth.models.stacked import StackedAdapters
from tests.support.models.adapter_files import (
    ALPHA,
    PROVENANCE,
    RANK,
    SEEDS,
    TARGETS,
    Images,
    State,
    base,
    images,
    merged,
    pipeline,
    plain,
    rows_of,
    same,
    save,
    states,
)

__all__ = ["base", "merged", "pipeline", "plain", "states"]


# Every layer of the UNet that has weights but its norms, under names that kohya's underscores make ambiguous.
ALL = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv2", "conv",
    "conv_in", "conv_out", "conv_shortcut", "time_emb_proj", "linear_1", "linear_2",
)  # fmt: skip


def by_diffusers(plain: StableDiffusionPipeline, path: Path, seed: int) -> Images:
    """The image that plain diffusers makes with an adapter's file."""
    plain.load_lora_weights(path.parent, weight_name=path.name, adapter_name="plain")
    scales = {module.scaling["plain"] for module in plain.unet.modules() if hasattr(module, "scaling")}
    try:
        assert scales == {ALPHA / RANK}
        return images(plain, (seed,))[0]
    finally:
        plain.unload_lora_weights()


@pytest.mark.slow
@pytest.mark.parametrize("targets", [TARGETS, ALL], ids=["targets of the demo", "all layers"])
def test_every_form_of_an_adapter_gives_the_same_image(
    pipeline: StableDiffusionPipeline,
    plain: StableDiffusionPipeline,
    merged: adapters.MergedAdapters,
    base: Images,
    tmp_path: Path,
    targets: tuple[str, ...],
) -> None:
    stack = StackedAdapters(pipeline.unet, RANK, ALPHA, targets)
    weights = rows_of(stack)
    # diffusers puts the unconditional half first: adapter-major, each has a sample in either half.
    with stack.using(torch.cat([weights, weights])):
        stacked = images(pipeline)
    stack.remove()
    for index, seed in enumerate(SEEDS):
        folder = tmp_path / str(index)
        folder.mkdir()
        adapters.save_adapter(stack.state(weights[index]), folder, RANK, ALPHA, targets, PROVENANCE)
        path, kohya = folder / adapters.FILE_NAME, folder / "kohya.safetensors"
        adapters.to_kohya(path, kohya)
        merged.switch(path)
        found = {
            "merged": images(pipeline, (seed,))[0],
            "diffusers": by_diffusers(plain, path, seed),
            "kohya": by_diffusers(plain, kohya, seed),
        }
        furthest = {form: int(abs(pixels - stacked[index]).max()) for form, pixels in found.items()}
        assert max(furthest.values()) <= 1, furthest
        assert abs(stacked[index] - base[index]).max() > 10, "an adapter that changes nothing proves nothing"
    merged.switch(None)
    assert (images(pipeline) == base).all() and (images(plain) == base).all()


def test_no_adapter_depends_on_those_beside_it(pipeline: StableDiffusionPipeline, base: Images) -> None:
    stack = StackedAdapters(pipeline.unet, RANK, ALPHA, TARGETS)
    weights = rows_of(stack)
    weights[1:] = 0
    with stack.using(torch.cat([weights, weights])):
        beside_nothing = images(pipeline)
    stack.remove()
    assert abs(beside_nothing[0] - base[0]).max() > 10
    assert abs(beside_nothing[1:] - base[1:]).max() <= 1


class _Heard(logging.Handler):
    """What diffusers has to say."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """Warnings of diffusers, which the tests otherwise turn off."""
    handler, before = _Heard(), diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_warning()
    diffusers.logging.add_handler(handler)
    yield handler.messages
    diffusers.logging.remove_handler(handler)
    diffusers.logging.set_verbosity(before)


def test_diffusers_has_nothing_to_say_about_our_files_but_what_it_says_of_its_own(
    plain: StableDiffusionPipeline, states: list[State], tmp_path: Path, heard: list[str]
) -> None:
    path = save(states[0], tmp_path / "ours")
    adapters.to_kohya(path, tmp_path / "kohya.safetensors")
    plain.save_lora_weights(tmp_path / "theirs", unet_lora_layers=states[0])
    assert heard == []
    plain.load_lora_weights(tmp_path / "theirs")
    plain.unload_lora_weights()
    theirs = list(heard)
    # That there is none for the text encoder.
    assert len(theirs) == 1 and "CLIPTextModel" in theirs[0]
    for file in (path, tmp_path / "kohya.safetensors"):
        by_diffusers(plain, file, SEEDS[0])
    assert heard == theirs * 3


def test_the_header_tells_rank_alpha_and_provenance(states: list[State], tmp_path: Path) -> None:
    path, kohya = save(states[0], tmp_path), tmp_path / "kohya.safetensors"
    adapters.to_kohya(path, kohya)
    (tmp_path / "usual").touch()
    assert {file.stat().st_mode for file in (path, kohya)} == {(tmp_path / "usual").stat().st_mode}
    with safe_open(path, "pt") as handle:
        (entry,) = handle.metadata().items()
    header = json.loads(entry[1])
    assert entry[0] == "lora_adapter_metadata"
    assert (header["unet.r"], header["unet.lora_alpha"]) == (RANK, ALPHA)
    assert header["unet.target_modules"] == sorted(TARGETS)
    assert adapters.read_provenance(path) == adapters.read_provenance(kohya) == PROVENANCE
    weights, scale = adapters.load_adapter(path)
    assert scale == ALPHA / RANK and len(weights) == len(states[0])
    names = {".lora_A.weight": ".down", ".lora_B.weight": ".up"}
    for name, value in states[0].items():
        layer, part = name[: -len(".lora_A.weight")], name[-len(".lora_A.weight") :]
        assert torch.equal(weights[layer + names[part]], value)


def test_kohya_names_every_layer_with_its_alpha(states: list[State], tmp_path: Path) -> None:
    adapters.to_kohya(save(states[0], tmp_path), tmp_path / "kohya.safetensors")
    found, layer = load_file(tmp_path / "kohya.safetensors"), "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert torch.equal(found[f"{name}.lora_down.weight"], states[0][f"{layer}.to_out.0.lora_A.weight"])
    assert torch.equal(found[f"{name}.lora_up.weight"], states[0][f"{layer}.to_out.0.lora_B.weight"])
    assert found[f"{name}.alpha"].shape == () and found[f"{name}.alpha"] == ALPHA
    assert len(found) == len(states[0]) * 3 / 2


def test_equal_adapters_are_equal_files(states: list[State], tmp_path: Path) -> None:
    backwards = dict(reversed(states[0].items()))
    one, other = save(states[0], tmp_path / "one"), tmp_path / "other"
    for attempt in range(5):
        adapters.to_kohya(one, tmp_path / f"{attempt}.safetensors")
        other.mkdir(exist_ok=True)
        provenance = dict(reversed(PROVENANCE.items()))
        adapters.save_adapter(backwards, other, RANK, ALPHA, TARGETS[::-1], provenance)
        assert (other / adapters.FILE_NAME).read_bytes() == one.read_bytes()
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1
    assert save(states[1], tmp_path / "other").read_bytes() != one.read_bytes()
    assert save(states[0], tmp_path / "other", cluster=4).read_bytes() != one.read_bytes()


# Fault case 43: losses that are no numbers.
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_never_saved(states: list[State], tmp_path: Path, bad: float) -> None:
    name, value = list(states[0].items())[-1]
    broken = value.clone()
    broken.view(-1)[-1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        save(states[0] | {name: broken}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_others_is_refused(states: list[State], tmp_path: Path) -> None:
    for number, metadata in enumerate([None, {"format": "pt"}]):
        path = tmp_path / f"{number}.safetensors"
        save_file(states[0], path, metadata)
        for read in (adapters.read_provenance, adapters.load_adapter):
            with pytest.raises(ValueError, match="no adapter written by fairsynth"):
                read(path)
        with pytest.raises(ValueError, match="no adapter written by fairsynth"):
            adapters.to_kohya(path, tmp_path / "kohya.safetensors")
    assert not (tmp_path / "kohya.safetensors").exists()


def test_a_folder_holds_an_adapter_a_unet_or_neither(states: list[State], tmp_path: Path) -> None:
    assert adapters.weights_file(tmp_path) is None
    assert adapters.weights_file(tmp_path / "missing") is None
    (tmp_path / adapters.FULL_FILE_NAME).touch()
    assert adapters.weights_file(tmp_path) == tmp_path / adapters.FULL_FILE_NAME
    path = save(states[0], tmp_path / "one")
    assert adapters.weights_file(tmp_path / "one") == path


def test_a_file_is_read_as_it_was_saved(pipeline: StableDiffusionPipeline, states: list[State], tmp_path: Path) -> None:
    found = adapters.read_state(save(states[0], tmp_path))
    assert (found.rank, found.alpha, found.target_modules) == (RANK, ALPHA, tuple(sorted(TARGETS)))
    assert same(found.weights, states[0])
    # It is what a stack is built with, and takes as a row.
    stack = StackedAdapters(pipeline.unet, found.rank, found.alpha, found.target_modules)
    stack.remove()
    assert torch.equal(stack.row(found.weights), rows_of(stack)[0])
    adapters.to_kohya(tmp_path / adapters.FILE_NAME, tmp_path / "kohya.safetensors")
    save_file(states[0], tmp_path / "plain.safetensors", {"format": "pt"})
    for other in ("kohya", "plain"):
        with pytest.raises(ValueError, match="no adapter written by fairsynth"):
            adapters.read_state(tmp_path / f"{other}.safetensors")

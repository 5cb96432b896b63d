"""Weights merged into the UNet: in any order, at any strength and after any failure they are exactly those meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from fairsynth.models import adapters
from fairsynth.models.adapters import Part
from fairsynth.models.diffusion import load_pipeline
from tests.support.models.adapter_files import (
    MODELS,
    RANK,
    SEEDS,
    Images,
    State,
    base,
    furthest,
    images,
    merged,
    pipeline,
    plain,
    same,
    save,
    states,
)

__all__ = ["base", "merged", "pipeline", "plain", "states"]


def image(pipeline: StableDiffusionPipeline) -> Images:
    """The image of the first seed."""
    return images(pipeline, SEEDS[:1])[0]


def save_full(pipeline: StableDiffusionPipeline, folder: Path, seed: int) -> Path:
    """Write another UNet of the same kind, as diffusers does."""
    unet = UNet2DConditionModel.from_config(pipeline.unet.config)
    generator = torch.Generator().manual_seed(seed)
    noisy = {k: v + 0.05 * v.std() * torch.randn(v.shape, generator=generator) for k, v in weights_of(pipeline).items()}
    unet.load_state_dict({name: value.nan_to_num() for name, value in noisy.items()})
    unet.save_pretrained(folder)
    return folder / adapters.FULL_FILE_NAME


def weights_of(pipeline: StableDiffusionPipeline) -> State:
    """A copy of the UNet's weights."""
    return {name: value.detach().clone() for name, value in pipeline.unet.state_dict().items()}


def test_a_full_unet_gives_the_image_that_it_gives_alone(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, base: Images, tmp_path: Path
) -> None:
    path = save_full(pipeline, tmp_path, 1)
    merged.switch(adapters.weights_file(tmp_path))
    assert same(weights_of(pipeline), load_file(path))
    ours = image(pipeline)
    merged.switch(None)
    alone = load_pipeline(MODELS)
    alone.unet = UNet2DConditionModel.from_pretrained(tmp_path, use_safetensors=True)
    assert (image(alone) == ours).all()
    assert abs(ours - base[0]).max() > 10, "a UNet that changes nothing proves nothing"
    assert (image(pipeline) == base[0]).all()


def test_in_whatever_order_weights_are_switched_each_is_as_the_first_time(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    paths: list[Path | None] = [None, save(states[0], tmp_path / "a"), save(states[1], tmp_path / "b")]
    paths += [save_full(pipeline, tmp_path / "c", 1), save_full(pipeline, tmp_path / "d", 2)]
    first = []
    for path in paths:
        # From a UNet that was nothing else before.
        alone = adapters.MergedAdapters(pipeline.unet)
        alone.switch(path)
        first.append(weights_of(pipeline))
        alone.switch(None)
        assert same(weights_of(pipeline), first[0])
    assert not any(same(first[i], first[j]) for i in range(5) for j in range(i))
    # Every one of them follows every other, and itself.
    for index in (1, 3, 1, 2, 4, 3, 3, 2, 1, 0, 4, 2, 3, 0, 0, 2, 2, 0, 3, 4, 1, 1, 4, 4, 0, 1, 0):
        merged.switch(paths[index])
        assert same(weights_of(pipeline), first[index])


def test_nothing_is_read_again_for_weights_that_are_in_use(
    merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    path = save(states[0], tmp_path)
    merged.switch(path)
    path.unlink()
    merged.switch(path)


def broken_files(states: list[State], unet: State, folder: Path) -> dict[str, Path]:
    """Files that do not fit the demo's UNet, by what is said of them."""
    down, layer = "lora_A.weight", "up_blocks.9.attentions.0.proj_in"
    name = next(name for name in states[0] if name.endswith(f"proj_in.{down}"))
    whole = next(name for name, value in unet.items() if value.ndim == 1)
    unknown = {f"{layer}.{down}": torch.ones(RANK, 2), f"{layer}.lora_B.weight": torch.ones(2, RANK)}
    other = {name: torch.cat([states[0][name]] * 2, 1)}
    found = {
        "no weight 'up_blocks.9": save(states[0] | unknown, folder / "unknown"),
        "of shape": save(states[0] | other, folder / "other"),
    }
    fulls = {
        "is not in the file": {key: value for key, value in unet.items() if key != whole},
        "no weight 'extra'": unet | {"extra": torch.ones(1)},
        # Copying would spread it over the weight.
        r"of shape \(1,\)": unet | {whole: torch.ones(1)},
    }
    for message, weights in fulls.items():
        found[message] = folder / str(len(found)) / adapters.FULL_FILE_NAME
        found[message].parent.mkdir()
        save_file(weights, found[message])
    return found


def test_after_a_file_that_does_not_fit_the_unet_is_the_base(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    before, good = weights_of(pipeline), save(states[0], tmp_path)
    for message, path in broken_files(states, before, tmp_path).items():
        merged.switch(good)
        with pytest.raises(ValueError, match=message):
            merged.switch(path)
        assert same(weights_of(pipeline), before)


def test_after_a_merge_that_broke_off_the_base_can_be_had_back(
    pipeline: StableDiffusionPipeline,
    merged: adapters.MergedAdapters,
    states: list[State],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, path = weights_of(pipeline), save(states[0], tmp_path)
    plain, calls = adapters.MergedAdapters._kept, []

    def failing(self: adapters.MergedAdapters, name: str) -> torch.Tensor:
        calls.append(name)
        if len(calls) == 9:
            raise torch.cuda.OutOfMemoryError("pretended")
        return plain(self, name)

    monkeypatch.setattr(adapters.MergedAdapters, "_kept", failing)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        merged.switch(path)
    assert not same(weights_of(pipeline), before), "a failure that leaves nothing behind proves nothing"
    merged.switch(None)
    assert same(weights_of(pipeline), before)


def test_parts_in_use_are_added_up_each_at_its_strength(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    base = weights_of(pipeline)
    a, b = save(states[0], tmp_path / "a"), save(states[1], tmp_path / "b")
    full, other = save_full(pipeline, tmp_path / "c", 1), save_full(pipeline, tmp_path / "d", 2)
    for parts in (
        [Part(a)],
        [Part(a, 0.5)],
        [Part(a, 2.0), Part(b, -1.0)],
        [Part(b), Part(a)],
        [Part(full, 0.25)],
        [Part(full), Part(a, 0.5)],
        # The second must not put what it is in place of what the first adds.
        [Part(a), Part(full)],
        [Part(full), Part(other)],
        [Part(a, 0.0)],
        [],
    ):
        merged.use(*parts)
        now = weights_of(pipeline)
        assert furthest(now, base, *parts) < 1e-5
        if any(part.strength for part in parts):
            assert furthest(now, base) > 1e-3
    assert same(weights_of(pipeline), base)


def test_another_strength_is_taken_up_and_the_same_one_is_not_read_again(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    base, path = weights_of(pipeline), save(states[0], tmp_path / "a")
    for strength in (1.0, 0.5, 1.0):
        merged.use(Part(path, strength))
        assert furthest(weights_of(pipeline), base, Part(path, strength)) < 1e-5
    merged.use(Part(path, 1.0), Part(path, 1.0))
    assert furthest(weights_of(pipeline), base, Part(path, 2.0)) < 1e-5
    before = weights_of(pipeline)
    hidden = path.rename(tmp_path / "hidden")
    merged.use(Part(path, 1.0), Part(path, 1.0))
    assert same(weights_of(pipeline), before)
    with pytest.raises(FileNotFoundError):
        merged.use(Part(path, 1.0))
    hidden.rename(path)
    merged.use(Part(path, 1.0))
    assert furthest(weights_of(pipeline), base, Part(path, 1.0)) < 1e-5


def test_a_second_part_that_does_not_fit_leaves_the_base(
    pipeline: StableDiffusionPipeline, merged: adapters.MergedAdapters, states: list[State], tmp_path: Path
) -> None:
    before, good = weights_of(pipeline), save(states[0], tmp_path)
    for message, path in broken_files(states, before, tmp_path).items():
        with pytest.raises(ValueError, match=message):
            merged.use(Part(good), Part(path))
        assert same(weights_of(pipeline), before)

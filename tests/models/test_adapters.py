"""Files of weights on the demo's real pipeline: every form of an adapter gives the same image, and the base comes back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fairsynth.config.load import load_config
from fairsynth.models import adapters
from fairsynth.models.adapters import Part
from fairsynth.models.diffusion import generate, load_pipeline
from fairsynth.models.stacked import StackedAdapters

MODELS = load_config(preset="demo").models
TARGETS = load_config(preset="demo").finetune.target_modules
# Every layer of the UNet that has weights but its norms, under names that kohya's underscores make ambiguous.
ALL = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv2", "conv",
    "conv_in", "conv_out", "conv_shortcut", "time_emb_proj", "linear_1", "linear_2",
)  # fmt: skip
RANK, ALPHA, SEEDS = 4, 8, (7, 8, 9)
PROMPT = "a photo of a low number on a building"
PROVENANCE = {"label": "schön", "cluster": 3, "best_step": None, "rate": 1e-3, "fairsynth": "0", "unet.r": 99}
State = dict[str, torch.Tensor]
Images = NDArray[Any]


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    """Where our code puts adapters."""
    return load_pipeline(MODELS)


@pytest.fixture(scope="module")
def plain() -> StableDiffusionPipeline:
    """Where diffusers loads files, and our code does nothing."""
    return load_pipeline(MODELS)


@pytest.fixture
def merged(pipeline: StableDiffusionPipeline) -> Iterator[adapters.MergedAdapters]:
    """Switches the pipeline's UNet; it is the base again afterwards."""
    switching = adapters.MergedAdapters(pipeline.unet)
    yield switching
    switching.switch(None)


@pytest.fixture(scope="module")
def base(pipeline: StableDiffusionPipeline) -> Images:
    """Images of the base model, one per seed."""
    return images(pipeline)


@pytest.fixture(scope="module")
def states(pipeline: StableDiffusionPipeline) -> list[State]:
    """Different adapters that change the image, one per seed."""
    stack = StackedAdapters(pipeline.unet, RANK, ALPHA, TARGETS)
    stack.remove()
    return [stack.state(row) for row in rows_of(stack)]


def rows_of(stack: StackedAdapters) -> torch.Tensor:
    """An adapter per seed."""
    return torch.randn(len(SEEDS), stack.size, generator=torch.Generator().manual_seed(0)) * 0.05


def images(pipeline: StableDiffusionPipeline, seeds: tuple[int, ...] = SEEDS) -> Images:
    """An image per seed, each value in 0..255."""
    count = len(seeds)
    return generate(pipeline, [PROMPT] * count, [""] * count, seeds, 32, 4, 2.0).astype(int)


def image(pipeline: StableDiffusionPipeline) -> Images:
    """The image of the first seed."""
    return images(pipeline, SEEDS[:1])[0]


def by_diffusers(plain: StableDiffusionPipeline, path: Path, seed: int) -> Images:
    """The image that plain diffusers makes with an adapter's file."""
    plain.load_lora_weights(path.parent, weight_name=path.name, adapter_name="plain")
    scales = {module.scaling["plain"] for module in plain.unet.modules() if hasattr(module, "scaling")}
    try:
        assert scales == {ALPHA / RANK}
        return images(plain, (seed,))[0]
    finally:
        plain.unload_lora_weights()


def save(state: State, folder: Path, **more: Any) -> Path:
    """Write an adapter's file."""
    folder.mkdir(exist_ok=True)
    adapters.save_adapter(state, folder, RANK, ALPHA, TARGETS, PROVENANCE | more)
    return folder / adapters.FILE_NAME


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


def same(ours: State, theirs: State) -> bool:
    """Whether all weights are equal to the last bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


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


def added(path: Path, base: State) -> State:
    """What a file adds to each weight of the base, in float64, worked out from its tensors by hand."""
    found, whole = {}, load_file(path)
    if path.name == adapters.FULL_FILE_NAME:
        return {name: value.double() - base[name].double() for name, value in whole.items()}
    for name, down in whole.items():
        if name.endswith(".lora_A.weight"):
            up, layer = whole[name.replace("lora_A", "lora_B")].double(), name[len("unet.") : -len(".lora_A.weight")]
            product = torch.einsum("or,ri->oi", up.flatten(1), down.double().flatten(1))
            found[f"{layer}.weight"] = product.view(base[f"{layer}.weight"].shape) * (ALPHA / RANK)
    return found


def furthest(ours: State, base: State, *parts: Part) -> float:
    """The largest difference of a weight from the base and all that the parts add."""
    expected = {name: value.double() for name, value in base.items()}
    for part in parts:
        for name, value in added(part.path, base).items():
            expected[name] = expected[name] + part.strength * value
    return max(float((ours[name] - expected[name]).abs().max()) for name in expected)


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

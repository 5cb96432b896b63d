"""Adapters and whole UNets as files, and the images that they give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from safetensors.torch import load_file

from fairsynth.config.load import load_config
from fairsynth.models import adapters
from fairsynth.models.adapters import Part
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.stacked import StackedAdapters
from tests.support.models.plain_images import generate

MODELS = load_config(preset="demo").models
TARGETS = load_config(preset="demo").finetune.target_modules
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


def save(state: State, folder: Path, **more: Any) -> Path:
    """Write an adapter's file."""
    folder.mkdir(exist_ok=True)
    adapters.save_adapter(state, folder, RANK, ALPHA, TARGETS, PROVENANCE | more)
    return folder / adapters.FILE_NAME


def same(ours: State, theirs: State) -> bool:
    """Whether all weights are equal to the last bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


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

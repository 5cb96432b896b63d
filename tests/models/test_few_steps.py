"""A few-step sampler in the base, with clusters' adapters on top, is what plain diffusers makes of both files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file, save_file

from fairsynth.errors import ConfigError
from fairsynth.models.adapters import FILE_NAME
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.families.table import family_of
from fairsynth.models.few_steps import add_few_steps
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.schedule import Sampling
from tests.support.models.making_images import MODELS, NAMES, PROMPT, adapters, furthest, row, write_adapters

__all__ = ["adapters"]
STEPS = 4
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a few-step sampler in peft's names, whose alpha (8) is not its rank (6)."""
    return write_adapters(tmp_path_factory.mktemp("few-steps"), ["sampler"], rank=6) / "sampler" / FILE_NAME


def in_kohyas_names(tensors: Tensors) -> Tensors:
    found = {}
    for name, value in tensors.items():
        layer, part = name.removeprefix("unet.").rsplit(".lora_", 1)
        base = f"lora_unet_{layer.replace('.', '_')}"
        found |= {f"{base}.lora_{'down' if part[0] == 'A' else 'up'}.weight": value, f"{base}.alpha": torch.tensor(8.0)}
    return found


def in_diffusers_old_names(tensors: Tensors) -> Tensors:
    names = (name.replace("lora_A", "lora.down").replace("lora_B", "lora.up") for name in tensors)
    found: Tensors = dict(zip(names, tensors.values(), strict=True))
    return found | {
        name.replace("lora.down.weight", "alpha"): torch.tensor(8.0)
        for name in found
        if name.endswith("lora.down.weight")
    }


def test_with_clusters_adapters_merged_or_stacked_it_is_what_diffusers_makes_of_both(
    sampler: Path, adapters: Path
) -> None:
    maker = ImageMaker(MODELS, Sampling(STEPS, "lcm", few_steps=str(sampler)), adapters)
    rows = [row(name, seed, guidance=1.0, negative_prompt="") for seed, name in enumerate((None, *NAMES))]
    alone = [maker([one])[0].astype(int) for one in rows]
    for one, image in zip(rows, alone, strict=True):
        assert furthest(image, by_diffusers(sampler, adapters, one)) <= 1
    stacked = maker(rows[1:]).astype(int)
    assert furthest(stacked, np.stack(alone[1:])) <= 1
    assert furthest(alone[0], plain(adapters, rows[0])) > 10, "a sampler that changes nothing proves nothing"


def by_diffusers(sampler: Path, adapters: Path, one: dict[str, Any]) -> Any:
    """Plain diffusers with the sampler fused, and the row's adapter fused after it."""
    pipeline = load_pipeline(MODELS)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    for file in (sampler, *([adapters / one["adapter"] / FILE_NAME] if one["adapter"] else [])):
        pipeline.load_lora_weights(file.parent, weight_name=file.name)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    images = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=torch.Generator("cpu").manual_seed(one["seed"]),
        height=32,
        width=32,
        output_type="np",
    ).images
    return images[0] * 255


def plain(adapters: Path, one: dict[str, Any]) -> Any:
    return ImageMaker(MODELS, Sampling(STEPS, "lcm"), adapters)([one])[0].astype(int)


@pytest.mark.parametrize("renamed", [in_kohyas_names, in_diffusers_old_names])
def test_a_file_in_other_names_adds_the_same(
    renamed: Callable[[Tensors], Tensors], sampler: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_file(renamed(load_file(sampler)), other)
    found = []
    for file in (sampler, other):
        pipeline = load_pipeline(MODELS)
        add_few_steps(pipeline.unet, family_of(pipeline), file)
        found.append(pipeline.unet.state_dict())
    untouched = load_pipeline(MODELS).unet.state_dict()
    assert all(torch.equal(found[0][name], found[1][name]) for name in untouched)
    assert not all(torch.equal(found[0][name], untouched[name]) for name in untouched)


def test_a_sampler_of_another_network_changes_nothing(sampler: Path, tmp_path: Path) -> None:
    tensors = load_file(sampler)
    name = sorted(tensors)[-1]
    wrong = {
        "wide": tensors | {name: torch.zeros(len(tensors[name]) + 1, *tensors[name].shape[1:])},
        "unknown": tensors | {f"unet.nowhere.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"},
    }
    pipeline = load_pipeline(MODELS)
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    for kind, content in wrong.items():
        save_file(content, tmp_path / f"{kind}.safetensors")
        with pytest.raises(ConfigError, match=r"synthesize\.few_steps: the network of models\.diffusion has no layer"):
            add_few_steps(pipeline.unet, family_of(pipeline), tmp_path / f"{kind}.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in pipeline.unet.state_dict().items())

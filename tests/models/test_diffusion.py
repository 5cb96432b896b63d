"""A base model is loaded in parts: what each part's work needs, and nothing that only takes memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import (
    encode_posteriors,
    encode_prompts,
    load_autoencoder,
    load_denoiser,
    load_pipeline,
    load_text_encoder,
    load_without_texts,
)
from fairsynth.models.families.table import family_of
from fairsynth.models.sampling import Wanted, denoise, to_pixels
from fairsynth.models.schedule import Sampling
from tests.support.models.plain_images import generate
from tests.support.models.tiny_flux2 import tiny_flux2
from tests.support.models.tiny_sd3 import tiny_sd3
from tests.support.models.tiny_sdxl import pipeline as tiny_sdxl
from tests.support.models.tiny_zimage import tiny_zimage

SIZE, SEEDS, PROMPTS = 32, [3, 4], ["a photo of a low number", "a photo of a high number on a flower"]
MAKERS: dict[str, Callable[[], Any] | None] = {
    "sd": None,
    "sdxl": tiny_sdxl,
    "sd3": tiny_sd3,
    "flux2": tiny_flux2,
    "zimage": tiny_zimage,
}


@pytest.fixture(scope="module", params=MAKERS)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelsConfig:
    """A tiny model of each family; the demo's for the first."""
    make: Callable[[], Any] | None = MAKERS[request.param]
    if make is None:
        return ModelsConfig(diffusion="demo", clip="demo", image_size=SIZE)
    folder: Path = tmp_path_factory.mktemp(request.param) / "model"
    make().save_pretrained(folder)
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=SIZE)


def weights(pipeline: Any) -> set[str]:
    """The parts that have weights."""
    return {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def test_parts_make_what_the_whole_makes_and_hold_no_others(models: ModelsConfig) -> None:
    whole = load_pipeline(models)
    family = family_of(whole)
    encoders = {part for part in weights(whole) if part.startswith("text_encoder")}
    assert weights(whole) == {family.network, "vae", *encoders} and encoders
    texts, maker, autoencoder = load_text_encoder(models), load_without_texts(models), load_autoencoder(models)
    assert (weights(texts), weights(maker), weights(autoencoder)) == (encoders, {family.network, "vae"}, {"vae"})

    expected = generate(whole, PROMPTS, ["", ""], SEEDS, SIZE, 3, 3.0)
    told = encode_prompts(texts, PROMPTS), encode_prompts(texts, ["", ""])
    latents = denoise(maker, Wanted(*told, [3.0, 3.0], SEEDS), SIZE, Sampling(3, family.schedulers[0]))
    assert np.abs(to_pixels(maker, latents).astype(int) - expected).max() <= 1 and expected.std() > 1

    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    for ours, theirs in zip(encode_posteriors(autoencoder, pixels), encode_posteriors(whole, pixels), strict=True):
        assert np.array_equal(ours, theirs) and ours.std() > 0


def test_what_is_trained_is_the_pipelines_network_frozen(models: ModelsConfig) -> None:
    denoiser, whole = load_denoiser(models), load_without_texts(models)
    network = denoiser.family.network_of(whole)
    assert not any(parameter.requires_grad for parameter in (*network.parameters(), *denoiser.network.parameters()))
    assert denoiser.network.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in denoiser.network.state_dict().items())

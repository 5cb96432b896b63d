"""FLUX.2 [klein]: trained as by diffusers' script, sampled as by its pipeline; the distilled kind makes images alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from diffusers.training_utils import compute_loss_weighting_for_sd3
from torch import nn

from fairsynth.config import ClassifyConfig, ModelsConfig, RunConfig
from fairsynth.data.shapes import Shape
from fairsynth.errors import ConfigError, DataError
from fairsynth.models.diffusion import (
    encode_posteriors,
    encode_prompts,
    load_denoiser,
    load_pipeline,
    load_text_encoder,
)
from fairsynth.models.families.flux2 import Flux2Klein
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.hub.check import check_sources
from fairsynth.models.sampling import first_noise, to_pixels
from fairsynth.models.schedule import Sampling
from fairsynth.stages.finetune.denoising import Draw
from tests.support.models.family_checks import AGAINST, PROMPTS, from_peft, furthest, ours, theirs, with_adapters
from tests.support.models.tiny_flux2 import saved_flux2, tiny_flux2

FAMILY = Flux2Klein()


def models(folder: Path, size: int = 32) -> ModelsConfig:
    """A run's models, of which this one makes the images."""
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is to be trained."""
    return saved_flux2(tmp_path_factory.mktemp("flux2"))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is not."""
    return saved_flux2(tmp_path_factory.mktemp("distilled"), distilled=True)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """Where our loop runs."""
    check_sources(models(folder), ClassifyConfig())
    return load_pipeline(models(folder))


def against(pipeline: Any, rows: slice = slice(0, 3)) -> dict[str, torch.Tensor]:
    """Negative prompts as the model's own pipeline takes them."""
    return {"negative_prompt_embeds": encode_prompts(pipeline, AGAINST[rows])["text"]}


def by_script(network: nn.Module, draw: Draw, told: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of train_dreambooth_lora_flux2_klein.py with its own settings, but in float64."""
    scheduler, flux = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), Flux2KleinPipeline
    sigmas = scheduler.sigmas[draw.levels].to(torch.float64)[:, None, None, None]
    noisy, places = (1.0 - sigmas) * draw.clean + sigmas * draw.noise, flux._prepare_latent_ids(draw.clean)
    packed = network(
        hidden_states=flux._pack_latents(noisy),
        timestep=scheduler.timesteps[draw.levels] / 1000,
        guidance=None,
        encoder_hidden_states=told["text"],
        txt_ids=flux._prepare_text_ids(told["text"]),
        img_ids=places,
        return_dict=False,
    )[0]
    predicted = flux._unpack_latents_with_ids(packed, places)
    weighting = compute_loss_weighting_for_sd3(weighting_scheme="none", sigmas=sigmas)
    return (weighting * (predicted - (draw.noise - draw.clean)) ** 2).reshape(len(noisy), -1).mean(1).mean()


@pytest.mark.parametrize("targets", [FAMILY.targets, FAMILY.shared_targets], ids=["own", "shared"])
def test_stacked_adapters_equal_those_that_peft_trains_one_at_a_time(folder: Path, targets: tuple[str, ...]) -> None:
    denoiser = load_denoiser(models(folder))
    apart = from_peft(FAMILY, tiny_flux2(), denoiser.noise, targets, (8, 4, 4), by_script)
    assert apart.loss <= 1e-8 and apart.gradient <= 1e-8


def test_all_targets_that_are_there_are_plain_layers() -> None:
    named = dict(tiny_flux2().transformer.named_modules())
    for target in FAMILY.shared_targets:
        found = [module for name, module in named.items() if f".{name}".endswith(f".{target}")]
        assert all(type(module) is nn.Linear for module in found), target
        # Its two blocks of one stream are fewer than real models have.
        assert found or int(target.split(".")[1]) >= 2, target


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_images_are_those_of_the_models_own_pipeline(pipeline: Any, guidance: float) -> None:
    found = ours(pipeline, guidance)
    assert furthest(found, theirs(tiny_flux2(), guidance, **against(pipeline))) <= 1
    assert found.std() > 10 and abs(found[0] - found[1]).max() > 10, "images that show nothing prove nothing"
    wide = Shape(24, 48)
    found = ours(pipeline, guidance, shape=wide)
    assert furthest(found, theirs(tiny_flux2(), guidance, shape=wide, **against(pipeline))) <= 1


def test_adapters_at_once_make_the_images_of_their_files_in_the_models_own_pipeline(
    pipeline: Any, tmp_path: Path
) -> None:
    found, base = with_adapters(pipeline, FAMILY.targets, tmp_path, 3.0), ours(pipeline, 3.0)
    for n in range(3):
        plain, own = tiny_flux2(), slice(n, n + 1)
        plain.load_lora_weights(tmp_path / str(n))
        assert furthest(found[own], theirs(plain, 3.0, own, **against(pipeline, own))) <= 1
        assert furthest(found[own], base[own]) > 5, "adapters that change nothing prove nothing"


@pytest.mark.parametrize("size", [32, 64])
def test_levels_are_shifted_by_the_images_size_and_the_number_of_steps(pipeline: Any, size: int) -> None:
    """By the published fit of its makers, worked out by hand for a few tokens."""
    tokens, steps = (size // 8) ** 2, 6
    by_10, by_200 = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    mu = by_10 + (by_200 - by_10) * (steps - 10) / 190
    expected = [np.exp(mu) / (np.exp(mu) + 1 / share - 1) for share in np.linspace(1, 1 / steps, steps)]
    euler = FAMILY.scheduler(pipeline, Sampling(steps, "euler"), size)
    np.testing.assert_allclose(euler.sigmas[:-1], expected, rtol=1e-5)
    for name in ("dpm++", "unipc"):
        other = FAMILY.scheduler(pipeline, Sampling(steps, name), size)
        assert other.config.flow_shift == pytest.approx(np.exp(mu))


def test_texts_are_encoded_the_same_without_the_network_and_beside_others(folder: Path, pipeline: Any) -> None:
    alone = [encode_prompts(load_text_encoder(models(folder)), [prompt])["text"] for prompt in PROMPTS]
    whole = encode_prompts(pipeline, PROMPTS)["text"]
    assert whole.shape == (3, 512, 24) and torch.equal(torch.cat(alone), whole)
    assert torch.equal(whole, tiny_flux2().encode_prompt(list(PROMPTS))[0].detach())


def test_a_prompt_whose_end_would_be_cut_is_refused(folder: Path) -> None:
    # Each letter is a token of this tokenizer, and so are those of the words in its template.
    around = len("user\n" + "\n" + "assistant\n" + "\n\n" + "\n\n") + 5
    longest, encoder = "a" * (512 - around), load_text_encoder(models(folder))
    assert encode_prompts(encoder, [longest])["text"].shape == (1, 512, 24)
    with pytest.raises(DataError, match=rf"has {len(longest) + 1} tokens, and models\.diffusion reads {len(longest)}"):
        encode_prompts(encoder, [longest + "a"])


def test_latents_are_patches_that_the_autoencoder_normalises(pipeline: Any) -> None:
    pixels, plain = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8), tiny_flux2()
    mean, std = encode_posteriors(pipeline, pixels)
    assert mean.shape[1:] == std.shape[1:] == FAMILY.latent_shape(pipeline, 32) == (8, 4, 4)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(mean, plain._encode_vae_image(images, None), atol=1e-5)
    found = plain.vae.encode(images).latent_dist
    spread = torch.sqrt(plain.vae.bn.running_var.view(1, -1, 1, 1) + plain.vae.config.batch_norm_eps)
    np.testing.assert_allclose(std, plain._patchify_latents(found.std) / spread, rtol=1e-5)
    shown = (plain.vae.decode(found.mean).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert furthest(to_pixels(pipeline, torch.from_numpy(mean)).astype(int), shown) <= 1


@pytest.mark.parametrize("size", [28, 36])
def test_sides_are_whole_patches_of_latents(folder: Path, pipeline: Any, size: int) -> None:
    text = rf"^models\.image_size is {size}; the base model needs a multiple of 8: set --models\.image_size "
    with pytest.raises(ConfigError, match=text):
        first_noise(pipeline, [torch.Generator()], size)
    with pytest.raises(ConfigError, match=text):
        check_sources(models(folder, size), ClassifyConfig())


def test_a_distilled_model_is_for_generation_alone(distilled: Path) -> None:
    named = {"diffusion": str(distilled), "clip": "demo", "image_size": 32}
    check_sources(models(distilled), ClassifyConfig())
    with_base(RunConfig(models=named, finetune={"generator": "vanilla"}))
    for ask in (lambda: with_base(RunConfig(models=named)), lambda: load_denoiser(models(distilled))):
        with pytest.raises(ConfigError, match=r"is distilled to few steps, .* --finetune\.generator vanilla"):
            ask()


def test_a_distilled_model_is_not_guided_as_in_its_own_pipeline(distilled: Path) -> None:
    found = ours(load_pipeline(models(distilled)), 4.0)
    assert furthest(found, theirs(tiny_flux2(distilled=True), 4.0)) <= 1
    assert furthest(found, ours(load_pipeline(models(distilled)), 1.0)) == 0


def test_guidance_as_an_input_is_refused() -> None:
    assert "guidance as an input" in FAMILY.unusable({}, {}) and not FAMILY.unusable({"guidance_embeds": False}, {})

"""Stable Diffusion 3: trained as by diffusers' script, sampled as by its pipeline, with T5 and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from diffusers.training_utils import compute_loss_weighting_for_sd3
from torch import nn

from fairsynth.config import ClassifyConfig, ModelsConfig, RunConfig
from fairsynth.errors import ConfigError, DataError
from fairsynth.models.diffusion import (
    encode_posteriors,
    encode_prompts,
    load_denoiser,
    load_pipeline,
    load_text_encoder,
)
from fairsynth.models.families.sd3 import StableDiffusion3
from fairsynth.models.hub.check import check_sources
from fairsynth.models.hub.prompts import check_prompts
from fairsynth.models.sampling import first_noise, to_pixels
from fairsynth.stages.finetune.denoising import Draw
from tests.support.models.family_checks import AGAINST, PROMPTS, from_peft, furthest, ours, theirs, with_adapters
from tests.support.models.tiny_sd3 import saved_sd3, tiny_sd3

FAMILY = StableDiffusion3()


def models(folder: Path, size: int = 32) -> ModelsConfig:
    """A run's models, of which this one makes the images."""
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=size)


def config_of(folder: Path, words: str) -> RunConfig:
    """A run whose prompts have these words."""
    prompt = {"prompt": f"{words} {{label}} {{attribute}}"}
    return RunConfig(models=models(folder), finetune={"generator": "vanilla"}, synthesize=prompt)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with T5, and one without."""
    made = tmp_path_factory.mktemp("sd3")
    return {"t5": saved_sd3(made / "t5"), "no t5": saved_sd3(made / "none", t5=False)}


@pytest.fixture(scope="module", params=["t5", "no t5"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of both."""
    return str(request.param)


@pytest.fixture(scope="module")
def pipeline(folders: dict[str, Path], kind: str) -> Any:
    """Where our loop runs."""
    check_sources(models(folders[kind]), ClassifyConfig())
    return load_pipeline(models(folders[kind]))


@pytest.fixture
def plain(kind: str) -> StableDiffusion3Pipeline:
    """Where diffusers' own loop runs."""
    return tiny_sd3(t5=kind == "t5")


def by_script(network: nn.Module, draw: Draw, told: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of train_dreambooth_lora_sd3.py with its own settings, but in float64."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sigmas = scheduler.sigmas[draw.levels].to(torch.float64)[:, None, None, None]
    noisy = (1.0 - sigmas) * draw.clean + sigmas * draw.noise
    predicted = network(
        hidden_states=noisy,
        timestep=scheduler.timesteps[draw.levels],
        encoder_hidden_states=told["text"],
        pooled_projections=told["pooled"],
        return_dict=False,
    )[0]
    predicted = predicted * (-sigmas) + noisy
    weighting = compute_loss_weighting_for_sd3(weighting_scheme="logit_normal", sigmas=sigmas)
    return (weighting * (predicted - draw.clean) ** 2).reshape(len(noisy), -1).mean(1).mean()


@pytest.mark.parametrize("targets", [FAMILY.targets, FAMILY.shared_targets], ids=["own", "shared"])
def test_stacked_adapters_equal_those_that_peft_trains_one_at_a_time(
    folders: dict[str, Path], targets: tuple[str, ...]
) -> None:
    denoiser = load_denoiser(models(folders["t5"]))
    apart = from_peft(FAMILY, tiny_sd3(), denoiser.noise, targets, (4, 8, 8), by_script)
    assert apart.loss <= 1e-8 and apart.gradient <= 1e-8


def test_all_targets_are_there_and_plain_layers() -> None:
    named = dict(tiny_sd3().transformer.named_modules())
    for target in FAMILY.shared_targets:
        found = [module for name, module in named.items() if f".{name}".endswith(f".{target}")]
        assert found and all(type(module) is nn.Linear for module in found), target


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_images_are_those_of_the_models_own_pipeline(
    pipeline: Any, plain: StableDiffusion3Pipeline, kind: str, guidance: float
) -> None:
    # In the place of T5 stand zeros, here as many as CLIP reads; the pipeline's call takes their number.
    more = {} if kind == "t5" else {"max_sequence_length": 24}
    found = ours(pipeline, guidance)
    assert furthest(found, theirs(plain, guidance, negative_prompt=list(AGAINST), **more)) <= 1
    assert found.std() > 10 and abs(found[0] - found[1]).max() > 10, "images that show nothing prove nothing"


def test_adapters_at_once_make_the_images_of_their_files_in_the_models_own_pipeline(
    pipeline: Any, kind: str, tmp_path: Path
) -> None:
    more = {} if kind == "t5" else {"max_sequence_length": 24}
    found, base = with_adapters(pipeline, FAMILY.targets, tmp_path, 3.0), ours(pipeline, 3.0)
    for n in range(3):
        plain = tiny_sd3(t5=kind == "t5")
        plain.load_lora_weights(tmp_path / str(n))
        own = slice(n, n + 1)
        assert furthest(found[own], theirs(plain, 3.0, own, negative_prompt=list(AGAINST[own]), **more)) <= 1
        assert furthest(found[own], base[own]) > 5, "adapters that change nothing prove nothing"


def test_texts_are_encoded_the_same_without_the_network(folders: dict[str, Path], kind: str, pipeline: Any) -> None:
    alone = encode_prompts(load_text_encoder(models(folders[kind])), PROMPTS)
    whole = encode_prompts(pipeline, PROMPTS)
    tokens = 24 + (256 if kind == "t5" else 24)
    assert {name: tuple(value.shape) for name, value in alone.items()} == {"text": (3, tokens, 48), "pooled": (3, 32)}
    assert all(torch.equal(alone[name], whole[name]) for name in whole)
    assert bool(whole["text"][:, 24:].any()) == (kind == "t5")


def test_latents_are_shifted_and_scaled_as_by_the_script(pipeline: Any, plain: StableDiffusion3Pipeline) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    mean, std = encode_posteriors(pipeline, pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    found = plain.vae.encode(images).latent_dist
    assert mean.shape[1:] == FAMILY.latent_shape(pipeline, 32) == (4, 8, 8)
    np.testing.assert_allclose(mean, (found.mean - 0.0609) * 1.5305, atol=1e-5)
    np.testing.assert_allclose(std, found.std * 1.5305, rtol=1e-5)
    shown = (plain.vae.decode(found.mean).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert furthest(to_pixels(pipeline, torch.from_numpy(mean)).astype(int), shown) <= 1


def test_a_prompt_that_t5_would_cut_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    found = load_text_encoder(models(folders["t5"]))
    found.tokenizer.model_max_length = found.tokenizer_2.model_max_length = found.tokenizer_max_length = 1000
    with pytest.raises(DataError, match=r"has 301 tokens, and models\.diffusion reads 256"):
        encode_prompts(found, ["a " * 300])
    found.tokenizer_max_length = 20
    with pytest.raises(DataError, match="reads 20"):
        encode_prompts(found, ["a " * 30])


def test_prompts_are_measured_by_the_tokenizers_that_are_there(folders: dict[str, Path], tmp_path: Path) -> None:
    for folder in folders.values():
        check_prompts(config_of(folder, "photo"), ["low"], ["building"])
        with pytest.raises(DataError, match=r"reads 24: its end"):
            check_prompts(config_of(folder, "photo " * 25), ["low"], ["building"])
    long = "photo " * 300
    shutil.copytree(folders["t5"], tmp_path / "long")
    for name in ("tokenizer", "tokenizer_2"):
        file = tmp_path / "long" / name / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "model_max_length": 10_000}), "utf-8")
    with pytest.raises(DataError, match=r"models\.diffusion reads 256: its end"):
        check_prompts(config_of(tmp_path / "long", long), ["low"], ["building"])
    (tmp_path / "long" / "tokenizer_3").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"models\.clip reads 32: its end"):
        check_prompts(config_of(tmp_path / "long", long), ["low"], ["building"])


@pytest.mark.parametrize("size", [28, 36])
def test_sides_are_whole_patches_of_latents(folders: dict[str, Path], pipeline: Any, size: int) -> None:
    text = rf"^models\.image_size is {size}; the base model needs a multiple of 8: set --models\.image_size "
    with pytest.raises(ConfigError, match=text):
        first_noise(pipeline, [torch.Generator()], size)
    with pytest.raises(ConfigError, match=text):
        check_sources(models(folders["t5"], size), ClassifyConfig())


def test_a_side_beyond_the_table_of_positions_is_refused_before_anything_is_loaded(folders: dict[str, Path]) -> None:
    check_sources(models(folders["t5"], 128), ClassifyConfig())
    with pytest.raises(
        ConfigError, match=r"^models\.image_size is 136; .* beyond 128 pixels: set --models\.image_size 128"
    ):
        check_sources(models(folders["t5"], 136), ClassifyConfig())
    blocks = {"block_out_channels": [1] * 4}
    published = [FAMILY.most_side(blocks, {"pos_embed_max_size": tokens}) for tokens in (192, 384)]
    assert published == [3072, 6144] and FAMILY.most_side(blocks, {}) == 1536
    assert FAMILY.most_side({}, {}) is None and FAMILY.most_side(blocks, {"pos_embed_max_size": None}) is None


def test_t5_without_its_tokenizer_is_refused() -> None:
    index = {"text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer_3": [None, None]}
    assert FAMILY.unusable({}, index) == "has text_encoder_3, but not its companion"
    assert not FAMILY.unusable({}, {}) and not FAMILY.unusable({}, {part: [None, None] for part in index})

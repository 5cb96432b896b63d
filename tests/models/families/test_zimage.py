"""Z-Image: trained as by diffusers' script, sampled as by its pipeline, with texts of several lengths side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from torch import nn

from fairsynth.config import ClassifyConfig, FinetuneConfig, ModelsConfig
from fairsynth.data.shapes import Shape
from fairsynth.errors import ConfigError, DataError
from fairsynth.models.adapters import FILE_NAME, read_state, save_adapter, to_kohya
from fairsynth.models.diffusion import (
    Denoiser,
    encode_posteriors,
    encode_prompts,
    load_denoiser,
    load_pipeline,
    load_text_encoder,
)
from fairsynth.models.families.conditions import joined, mapped
from fairsynth.models.families.zimage import ZImage
from fairsynth.models.hub.check import check_sources
from fairsynth.models.sampling import first_noise, to_pixels
from fairsynth.models.schedule import Sampling
from fairsynth.models.sources import revision
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.finetune.denoising import Draw, Latents
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import Trained
from fairsynth.stages.finetune.prompt_embeddings import read_texts, write_texts
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from tests.support.lots import changed, jobs, run
from tests.support.models.family_checks import AGAINST, PROMPTS, from_peft, furthest, ours, theirs, with_adapters
from tests.support.models.small_networks import ALPHA, RANK
from tests.support.models.tiny_zimage import SIDE, tiny_zimage

FAMILY = ZImage()
DYNAMIC = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.3, "max_shift": 1.4}
SCHEDULES = pytest.mark.parametrize("schedule", [{}, DYNAMIC], ids=["fixed shift", "shift by size"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as people have it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_zimage().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def wide() -> ZImagePipeline:
    """The tiny model in float64."""
    return tiny_zimage(torch.float64)


def models(folder: Path, size: int = SIDE) -> ModelsConfig:
    """A run's models, of which this one makes the images."""
    return ModelsConfig(diffusion=str(folder), clip="demo", image_size=size)


def by_script(network: nn.Module, draw: Draw, told: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of train_dreambooth_lora_z_image.py with its own settings, but in float64."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    timesteps = scheduler.timesteps[draw.levels]
    sigmas = scheduler.sigmas[draw.levels].to(torch.float64)[:, None, None, None]
    noisy = (1.0 - sigmas) * draw.clean + sigmas * draw.noise
    embeddings = [text[mask.bool()] for text, mask in zip(told["text"], told["mask"], strict=True)]
    inputs = list(noisy.unsqueeze(2).unbind(dim=0))
    outputs = network(inputs, (1000 - timesteps) / 1000, embeddings, return_dict=False)[0]
    predicted = -torch.stack(outputs, dim=0).squeeze(2)
    return ((predicted - (draw.noise - draw.clean)) ** 2).reshape(len(noisy), -1).mean(1).mean()


@pytest.mark.parametrize("targets", [FAMILY.targets, FAMILY.shared_targets], ids=["own", "shared"])
def test_stacked_adapters_equal_those_that_peft_trains_one_at_a_time(folder: Path, targets: tuple[str, ...]) -> None:
    noise = load_denoiser(models(folder)).noise
    apart = from_peft(FAMILY, tiny_zimage(torch.float64), noise, targets, (16, 8, 8), by_script)
    assert apart.loss <= 1e-8 and apart.gradient <= 1e-8


def test_every_level_of_noise_is_as_likely(folder: Path) -> None:
    noise = FAMILY.noise(str(folder), None)
    script = (torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 1000).long()
    assert torch.equal(noise.draw(1000, torch.Generator().manual_seed(0)), script)


def test_all_targets_are_there_and_plain_layers() -> None:
    named = dict(tiny_zimage().transformer.named_modules())
    for target in FAMILY.shared_targets:
        found = [module for name, module in named.items() if f".{name}".endswith(f".{target}")]
        assert found and all(type(module) is nn.Linear for module in found), target


def lot_of(
    wide: ZImagePipeline, folder: Path, width: int, targets: Sequence[str] = ZImage.targets
) -> dict[str, Trained]:
    """Three adapters with prompts and class prompts of other lengths, trained by so many at once."""
    config = FinetuneConfig(rank=RANK, alpha=5, batch_size=2, validation_share=0, target_modules=tuple(targets))
    work = [changed(job, prompt=prompt) for job, prompt in zip(jobs([3, 2, 3]), PROMPTS, strict=True)]
    texts = {text: mapped(lambda value: value[0], encode_prompts(wide, [text])) for job in work for text in job.texts}
    denoiser = Denoiser(wide.transformer, FAMILY.noise(str(folder), None), FAMILY)
    return run(StackedTrainer(denoiser, config, texts, latents_of, width), work)


def latents_of(job: AdapterJob) -> Latents:
    """Latents of each of a job's images."""
    drawn = np.random.default_rng(job.seed).standard_normal((2, len(job.image_ids), 16, 4, 4)).astype(np.float32)
    return Latents(drawn[0], np.abs(drawn[1]) * np.float32(0.1))


def test_training_does_not_depend_on_the_texts_of_other_adapters(wide: ZImagePipeline, folder: Path) -> None:
    together, alone = lot_of(wide, folder, 3), lot_of(wide, folder, 1)
    for name, one in alone.items():
        assert one.weights is not None and together[name].weights is not None
        for layer, value in one.weights.items():
            torch.testing.assert_close(together[name].weights[layer], value, rtol=0, atol=1e-8)


def test_a_layer_that_gets_texts_as_one_row_is_refused(wide: ZImagePipeline, folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^finetune\.target_modules: 'cap_embedder\.1' gets texts of several lengths"
    ):
        lot_of(wide, folder, 3, ("to_q", "cap_embedder.1"))


@SCHEDULES
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_images_are_those_of_the_models_own_pipeline(schedule: dict[str, Any], guidance: float) -> None:
    pipeline = tiny_zimage(**schedule)
    found = ours(pipeline, guidance)
    # The pipeline counts guidance from 0.
    assert furthest(found, theirs(pipeline, guidance - 1, negative_prompt=list(AGAINST))) <= 1
    assert found.std() > 10 and abs(found[0] - found[1]).max() > 10, "images that show nothing prove nothing"
    assert guidance == 1 or furthest(found, ours(pipeline, 1.0)) > 3
    tall = Shape(40, 24)
    found = ours(pipeline, guidance, shape=tall)
    assert furthest(found, theirs(pipeline, guidance - 1, shape=tall, negative_prompt=list(AGAINST))) <= 1


@SCHEDULES
@pytest.mark.parametrize(("steps", "size"), [(1, 32), (3, 32), (9, 64)])
def test_the_schedule_is_the_pipelines(schedule: dict[str, Any], steps: int, size: int) -> None:
    pipeline = tiny_zimage(**schedule)
    found = FAMILY.scheduler(pipeline, Sampling(steps, "euler"), size)
    pipeline("a fox", size, size, steps, guidance_scale=0, output_type="latent")
    assert len(found.timesteps) == steps and torch.equal(found.timesteps, pipeline.scheduler.timesteps)
    assert torch.equal(found.sigmas, pipeline.scheduler.sigmas)


def test_neighbours_of_other_lengths_change_nothing(wide: ZImagePipeline) -> None:
    sample = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    times, texts = torch.tensor([900.0, 20.0, 400.0]), [encode_prompts(wide, [prompt]) for prompt in PROMPTS]
    batched = FAMILY.predict(wide.transformer, sample, times, joined(texts))
    assert len({-(-text["mask"].shape[1] // 32) for text in texts}) > 1, "the network pads texts to 32 tokens"
    for place, text in enumerate(texts):
        own = slice(place, place + 1)
        alone = FAMILY.predict(wide.transformer, sample[own], times[own], text)
        torch.testing.assert_close(batched[own], alone, rtol=0, atol=1e-10)


def test_in_a_narrow_format_images_are_those_of_the_pipeline_too() -> None:
    pipeline = tiny_zimage(torch.bfloat16)
    expected = theirs(pipeline, 1.5, negative_prompt=list(AGAINST))
    assert furthest(ours(pipeline, 2.5), expected) <= 1
    assert furthest(ours(tiny_zimage(), 2.5), expected) > 3, "the format must matter"


def test_adapters_at_once_make_the_images_of_their_files_in_the_models_own_pipeline(tmp_path: Path) -> None:
    pipeline = tiny_zimage()
    found, base = with_adapters(pipeline, FAMILY.targets, tmp_path, 2.5), ours(pipeline, 2.5)
    for n in range(3):
        own, plain = slice(n, n + 1), tiny_zimage()
        plain.load_lora_weights(tmp_path / str(n))
        assert furthest(found[own], theirs(plain, 1.5, own, negative_prompt=list(AGAINST[own]))) <= 1
        assert furthest(found[own], base[own]) > 5, "adapters that change nothing prove nothing"


def test_a_file_gives_its_adapter_back_and_has_no_names_of_kohyas(tmp_path: Path) -> None:
    stack = StackedAdapters(tiny_zimage().transformer, RANK, ALPHA, FAMILY.targets)
    row = stack.initial(3)
    save_adapter(stack.state(row), tmp_path, RANK, int(ALPHA), FAMILY.targets, {"family": "zimage"}, FAMILY.network)
    assert torch.equal(stack.row(read_state(tmp_path / FILE_NAME).weights), row)
    with pytest.raises(ConfigError, match=r"^kohya's format has no names for adapters of Z-Image"):
        to_kohya(tmp_path / FILE_NAME, tmp_path / "kohya.safetensors")


def test_texts_are_what_the_encoder_makes_of_them_within_the_chat_template(wide: ZImagePipeline) -> None:
    found = encode_prompts(wide, PROMPTS)
    for prompt, text, mask in zip(PROMPTS, found["text"], found["mask"], strict=True):
        asked = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        tokens = wide.tokenizer(asked, return_tensors="pt").input_ids
        alone = wide.text_encoder(tokens, output_hidden_states=True).hidden_states[-2][0]
        assert mask.tolist() == [True] * len(alone) + [False] * (len(mask) - len(alone))
        torch.testing.assert_close(text[mask], alone, rtol=0, atol=1e-10)
        assert not text[~mask].any()


def test_texts_are_encoded_the_same_without_the_network_and_stored_without_padding(
    folder: Path, tmp_path: Path
) -> None:
    whole, alone = (encode_prompts(load(models(folder)), PROMPTS) for load in (load_pipeline, load_text_encoder))
    assert all(torch.equal(alone[name], whole[name]) for name in ("text", "mask"))
    write_texts(models(folder), PROMPTS, tmp_path)
    stored = read_texts(tmp_path)
    for prompt, text, mask in zip(PROMPTS, whole["text"], whole["mask"], strict=True):
        torch.testing.assert_close(stored[prompt]["text"], text[mask])
        assert stored[prompt]["mask"].dtype == torch.bool and stored[prompt]["mask"].sum() == mask.sum()


def test_a_prompt_that_would_be_cut_is_refused() -> None:
    pipeline = tiny_zimage()
    around = int(encode_prompts(pipeline, [""])["mask"].sum())
    longest = "x" * (512 - around)
    assert encode_prompts(pipeline, [longest])["mask"].sum() == 512
    with pytest.raises(DataError, match=r"has 513 tokens, and models\.diffusion reads 512: its end would be lost"):
        encode_prompts(pipeline, ["a fox", f"{longest}x"])


def test_the_chat_template_is_part_of_which_model_it_is(folder: Path, tmp_path: Path) -> None:
    template = shutil.copytree(folder, tmp_path / "copy") / "tokenizer" / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("assistant", "painter"), "utf-8")
    assert revision(str(tmp_path / "copy"), None) != revision(str(folder), None)


def test_latents_are_shifted_and_scaled_as_by_the_script() -> None:
    pipeline = tiny_zimage()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    mean, std = encode_posteriors(pipeline, pixels)
    found = pipeline.vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
    assert mean.shape[1:] == FAMILY.latent_shape(pipeline, SIDE) == (16, 16, 16)
    np.testing.assert_allclose(mean, (found.mode() - 0.1159) * 0.3611, atol=1e-5)
    np.testing.assert_allclose(std, found.std * 0.3611, rtol=1e-5)
    shown = (pipeline.vae.decode(found.mean).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert furthest(to_pixels(pipeline, torch.from_numpy(mean)).astype(int), shown) <= 1


def test_sides_are_whole_patches_of_latents(folder: Path) -> None:
    text = r"^models\.image_size is 34; the base model needs a multiple of 4: set --models\.image_size "
    with pytest.raises(ConfigError, match=text):
        first_noise(load_pipeline(models(folder)), [torch.Generator()], 34)
    with pytest.raises(ConfigError, match=text):
        check_sources(models(folder, 34), ClassifyConfig(backbone="small"))
    check_sources(models(folder), ClassifyConfig(backbone="small"))


@pytest.mark.parametrize("other", [{"all_patch_size": [4]}, {"all_f_patch_size": [2]}, {"all_patch_size": 2}])
def test_a_network_for_other_patches_is_refused(other: dict[str, Any]) -> None:
    plain = {"all_patch_size": [2], "all_f_patch_size": [1]}
    assert FAMILY.unusable(plain, {}) == "" and "patches" in FAMILY.unusable(plain | other, {})

"""Stable Diffusion XL on a tiny random pipeline of its real classes: images, conditions, files and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.data.shapes import Shape
from fairsynth.errors import ConfigError, DataError
from fairsynth.models.adapters import FILE_NAME, save_adapter, to_kohya
from fairsynth.models.diffusion import encode_posteriors, encode_prompts, load_pipeline, load_text_encoder
from fairsynth.models.families.sdxl import StableDiffusionXL
from fairsynth.models.hub.check import check_sources
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.sampling import Wanted, denoise, to_pixels
from fairsynth.models.schedule import SCHEDULERS, Sampling
from fairsynth.models.stacked import StackedAdapters
from tests.support.models.plain_images import generate
from tests.support.models.tiny_sdxl import POOLED, SIZE, WIDTHS, models_of, pipeline, plain, tokenizer

STEPS, GUIDANCE, SEEDS = 4, 3.0, (7, 8)
SQUARE = Shape(SIZE, SIZE)
PROMPTS = ["a photo of a low number on a building", "a photo of a high number on a flower"]
AGAINST = ["", "stone"]
RANK, ALPHA, KOHYA = 2, 4, "kohya.safetensors"
# All layers of the UNet that have weights but its norms.
ALL = (
    *StableDiffusionXL.shared_targets, "conv", "conv_in", "conv_out", "linear_1", "linear_2",
)  # fmt: skip
Images = NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as files."""
    path = tmp_path_factory.mktemp("sdxl")
    pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ours(folder: Path) -> StableDiffusionXLPipeline:
    """The pipeline as we load it."""
    return load_pipeline(models_of(folder))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> StableDiffusionXLPipeline:
    """The pipeline as diffusers loads it."""
    return plain(folder)


def by_diffusers(
    plain: StableDiffusionXLPipeline,
    scheduler: str,
    prompts: list[str],
    against: list[str],
    shape: Shape = SQUARE,
) -> Images:
    """The images that diffusers' own call makes, each value in 0..255, not rounded."""
    plain.scheduler = getattr(diffusers, scheduler).from_config(plain.scheduler.config)
    return (
        plain(
            prompt=prompts,
            negative_prompt=against,
            height=shape.height,
            width=shape.width,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
            output_type="np",
        ).images
        * 255.0
    )


@pytest.mark.parametrize("name", ["euler", "dpm++"])
def test_images_are_those_of_the_pipelines_own_call(
    ours: StableDiffusionXLPipeline, theirs: StableDiffusionXLPipeline, name: Any
) -> None:
    """An empty negative prompt, too, which is encoded in both."""
    wanted = Wanted(encode_prompts(ours, PROMPTS), encode_prompts(ours, AGAINST), [GUIDANCE] * 2, SEEDS)
    found = to_pixels(ours, denoise(ours, wanted, SIZE, Sampling(STEPS, name)))
    expected = by_diffusers(theirs, SCHEDULERS[name], PROMPTS, AGAINST)
    assert np.abs(found - expected).max() <= 1
    tall = Shape(SIZE + SIZE // 4, SIZE - SIZE // 4)
    upright = to_pixels(ours, denoise(ours, wanted, tall, Sampling(STEPS, name)))
    assert np.abs(upright - by_diffusers(theirs, SCHEDULERS[name], PROMPTS, AGAINST, tall)).max() <= 1
    for prompts, against in ((PROMPTS[::-1], AGAINST), (PROMPTS, AGAINST[::-1])):
        other = by_diffusers(theirs, SCHEDULERS[name], prompts, against)
        assert np.abs(found - other).max() > 5, "what depends on no prompt proves nothing"


def test_a_prompt_is_both_encoders_last_state_but_one_and_the_seconds_projection(
    ours: StableDiffusionXLPipeline,
) -> None:
    found, expected = encode_prompts(ours, [*PROMPTS, ""]), []
    for text, place, encoder in ((ours.tokenizer, 0, ours.text_encoder), (ours.tokenizer_2, 1, ours.text_encoder_2)):
        ids = text([*PROMPTS, ""], padding="max_length", max_length=32, return_tensors="pt").input_ids
        expected.append(encoder(ids, output_hidden_states=True))
        assert expected[place].hidden_states[-2].shape == (3, 32, WIDTHS[place])
    states = torch.cat([one.hidden_states[-2] for one in expected], -1)
    assert torch.equal(found["text"], states) and torch.equal(found["pooled"], expected[1].text_embeds)
    assert found["pooled"].shape == (3, POOLED) and found.keys() == {"text", "pooled"}


def test_texts_are_encoded_without_the_network_and_the_autoencoder(
    folder: Path, ours: StableDiffusionXLPipeline
) -> None:
    encoder = load_text_encoder(models_of(folder))
    assert encoder.unet is None and encoder.vae is None
    found, expected = encode_prompts(encoder, PROMPTS), encode_prompts(ours, PROMPTS)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_a_prompt_must_be_whole_for_both_encoders(ours: StableDiffusionXLPipeline, part: str) -> None:
    short, before = tokenizer(model_max_length=8), getattr(ours, part)
    setattr(ours, part, short)
    try:
        with pytest.raises(DataError, match=r"models.diffusion reads 8: its end would be lost"):
            encode_prompts(ours, PROMPTS)
    finally:
        setattr(ours, part, before)


def cropped_by_the_script(height: int, width: int, size: int) -> list[int]:
    """Sizes and corner as diffusers' training scripts write them down: the shorter side scaled, the middle cut out."""
    shorter = min(height, width)
    scaled = (int(size * height / shorter), int(size * width / shorter))
    top, left = (max(0, round((side - size) / 2.0)) for side in scaled)
    return [height, width, top, left, size, size]


@pytest.mark.parametrize("size", [64, 512, 1024])
def test_images_are_told_with_their_size_and_the_corner_that_was_cut_out(size: int) -> None:
    rng = np.random.default_rng(0)
    sizes = np.concatenate([rng.integers(8, 5000, (200, 2)), [[size, size], [300, 200], [200, 300]]])
    found = StableDiffusionXL().image_facts(sizes, size)
    assert found.keys() == {"time_ids"} and found["time_ids"].dtype == np.float32
    assert found["time_ids"].tolist() == [
        cropped_by_the_script(height, width, size) for height, width in sizes.tolist()
    ]
    assert found["time_ids"][-3].tolist() == [size, size, 0, 0, size, size]
    assert found["time_ids"][-1].tolist() == [200, 300, 0, size // 4, size, size]


@pytest.mark.parametrize(
    ("before", "shape", "corner"),
    [((300, 200), (96, 64), (0, 0)), ((200, 200), (96, 64), (0, 16)), ((400, 100), (96, 64), (80, 0))],
)
def test_of_another_shape_the_image_covers_it_and_the_middle_is_cut_out(
    before: tuple[int, int], shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    for turned in (1, -1):
        sizes, target = np.array([before[::turned]]), Shape(*shape[::turned])
        expected = [*before[::turned], *corner[::turned], *target]
        assert StableDiffusionXL().image_facts(sizes, target)["time_ids"].tolist() == [expected]


def written(network: torch.nn.Module, folder: Path, names: tuple[str, ...]) -> None:
    """Adapters of all layers that change an image, as finetune leaves them."""
    stack = StackedAdapters(network, RANK, ALPHA, ALL)
    stack.remove()
    for name in names:
        generator = torch.Generator().manual_seed(sum(name.encode()))
        state = stack.state(torch.randn(stack.size, generator=generator) * 0.1)
        (folder / name).mkdir()
        save_adapter(state, folder / name, RANK, ALPHA, ALL, {"family": "sdxl"}, network="unet")


@pytest.mark.slow
def test_adapters_give_the_same_images_here_in_diffusers_and_under_kohyas_names(
    folder: Path, theirs: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    names = ("a", "b")
    maker = ImageMaker(models_of(folder), Sampling(STEPS, "euler"), tmp_path)
    written(maker.pipeline.unet, tmp_path, names)
    rows = [
        {
            "prompt": prompt, "negative_prompt": against, "guidance": GUIDANCE, "seed": seed, "adapter": name,
            "adapter_scale": 1.0, "second_adapter": None, "adapter_from": 0.0,
        }
        for prompt, against, seed, name in zip(PROMPTS, AGAINST, SEEDS, names, strict=True)
    ]  # fmt: skip
    together = maker(rows).astype(int)
    for place, row in enumerate(rows):
        assert np.abs(together[place] - maker([row])[0]).max() <= 1
    passed_over = to_kohya(tmp_path / names[0] / FILE_NAME, tmp_path / names[0] / KOHYA)
    outside = {"add_embedding.linear_1", "add_embedding.linear_2", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert {*passed_over} == {"conv_in", "conv_out"} | outside
    base = by_diffusers(theirs, SCHEDULERS["euler"], PROMPTS, AGAINST)
    for file in (FILE_NAME, KOHYA):
        theirs.load_lora_weights(tmp_path / names[0], weight_name=file, adapter_name="plain")
        images = by_diffusers(theirs, SCHEDULERS["euler"], PROMPTS, AGAINST)
        theirs.unload_lora_weights()
        assert np.abs(together[0] - images[0]).max() <= 1, file
        assert np.abs(images - base).max() > 10, "an adapter that changes nothing proves nothing"


def test_the_autoencoder_works_in_float32_where_it_must(
    folder: Path, ours: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    narrow = load_pipeline(models_of(folder, dtype="bfloat16"))
    assert narrow.vae.dtype == torch.float32
    assert {part.dtype for part in (narrow.unet, narrow.text_encoder, narrow.text_encoder_2)} == {torch.bfloat16}
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    for found, expected in zip(encode_posteriors(narrow, pixels), encode_posteriors(ours, pixels), strict=True):
        assert np.array_equal(found, expected) and found.shape == (2, 4, SIZE // 8, SIZE // 8)
    latents = generate(narrow, PROMPTS, AGAINST, SEEDS, SIZE, 2, GUIDANCE, latents_only=True)
    images = generate(narrow, PROMPTS, AGAINST, SEEDS, SIZE, 2, GUIDANCE)
    assert np.array_equal(images, to_pixels(ours, torch.from_numpy(latents)))
    enough = changed(folder, tmp_path / "other", "vae/config.json", weights=True, force_upcast=False)
    assert load_pipeline(enough.model_copy(update={"dtype": "bfloat16"})).vae.dtype == torch.bfloat16


def changed(folder: Path, target: Path, file: str, weights: bool = False, **changes: Any) -> ModelsConfig:
    """The pipeline, or its configurations alone, one of which has other entries."""
    shutil.copytree(folder, target, ignore=None if weights else shutil.ignore_patterns("*.safetensors"))
    path = target / file
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    return models_of(target)


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        (
            "model_index.json",
            {
                "_class_name": "StableDiffusionXLImg2ImgPipeline",
                "text_encoder": [None, None],
                "tokenizer": [None, None],
            },
            r"is a StableDiffusionXLImg2ImgPipeline, which is not supported; give .*\(StableDiffusionXLPipeline\)",
        ),
        ("model_index.json", {"text_encoder": [None, None]}, r"text_encoder.*must be CLIPTextModel of transformers"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "CLIPTextModelWithProjection"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMDPMSolverMultistepScheduler"}, "the noise of EDMDPM"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "guidance distillation"),
    ],
    ids=["refiner", "no first encoder", "another second encoder", "EDM", "distilled guidance"],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    folder: Path, tmp_path: Path, file: str, changes: dict[str, Any], told: str
) -> None:
    check_sources(models_of(folder), ClassifyConfig())
    with pytest.raises(ConfigError, match=told) as error:
        check_sources(changed(folder, tmp_path / "other", file, **changes), ClassifyConfig())
    assert "\n" not in str(error.value)

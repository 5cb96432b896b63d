"""Denoising: the same images as plain diffusers makes, each by its own seed and guidance, however the batch is laid out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.diffusion import encode_prompts, load_pipeline
from fairsynth.models.families.conditions import Conditions, joined
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.sampling import Wanted, denoise, first_noise, network_of, to_pixels
from fairsynth.models.schedule import SCHEDULERS, Sampling
from fairsynth.models.sources import demo_folder
from fairsynth.models.stacked import StackedAdapters

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
PROMPTS = ("a photo of a low number on a building", "a photo of a high number on a flower")
AGAINST = ("a blur", "")
SEEDS, STEPS, SIZE = (7, 8, 9, 10), 6, 32
Images = NDArray[Any]


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    """Where our loop runs."""
    return load_pipeline(MODELS)


@pytest.fixture(scope="module")
def plain() -> StableDiffusionPipeline:
    """Where diffusers' own loop runs."""
    return load_pipeline(MODELS)


def wanted(pipeline: StableDiffusionPipeline, guidance: Sequence[float], seeds: Sequence[int] = SEEDS) -> Wanted:
    """Images of both prompts in turn: each seed has its prompts, whatever its place."""
    # Each text alone: so an embedding is the same to the bit in every batch.
    texts = [encode_prompts(pipeline, [text]) for text in (*PROMPTS, *AGAINST)]
    towards, against = (joined([texts[start + seed % 2] for seed in seeds]) for start in (0, 2))
    return Wanted(towards, against, guidance, seeds)


def made(pipeline: StableDiffusionPipeline, batch: Wanted, sampling: Sampling, **more: Any) -> Images:
    """Our images, each value in 0..255."""
    return to_pixels(pipeline, denoise(pipeline, batch, SIZE, sampling, **more)).astype(int)


def by_diffusers(plain: StableDiffusionPipeline, batch: Wanted, scheduler_class: type, guidance: float) -> Images:
    """The images that diffusers' own call makes, each value in 0..255, not rounded."""
    plain.scheduler = scheduler_class.from_config(plain.scheduler.config)
    images = plain(
        prompt_embeds=batch.positive["text"],
        negative_prompt_embeds=batch.negative["text"],
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds],
        height=SIZE,
        width=SIZE,
        output_type="np",
    ).images
    return images * 255


@pytest.mark.parametrize(
    "guidance", [pytest.param(1.0, marks=pytest.mark.slow), 2.0, pytest.param(7.5, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_images_are_those_of_plain_diffusers(
    pipeline: StableDiffusionPipeline, plain: StableDiffusionPipeline, scheduler: Any, guidance: float
) -> None:
    batch = wanted(pipeline, [guidance] * 4)
    ours = made(pipeline, batch, Sampling(STEPS, scheduler))
    theirs = by_diffusers(plain, batch, getattr(diffusers, SCHEDULERS[scheduler]), guidance)
    assert np.abs(ours - theirs).max() <= 1
    assert ours.std() > 10 and abs(ours[0] - ours[1]).max() > 10, "images that show nothing prove nothing"


@pytest.mark.slow
def test_every_scheduler_and_guidance_is_told_apart(pipeline: StableDiffusionPipeline) -> None:
    found = [
        made(pipeline, wanted(pipeline, [guidance] * 4), Sampling(STEPS, scheduler))  # type: ignore[arg-type]
        for scheduler in SCHEDULERS
        for guidance in (1.0, 2.0)
    ]
    furthest = [abs(one - other).max() for i, one in enumerate(found) for other in found[:i]]
    assert min(furthest) > 3


def test_a_scheduler_keeps_the_models_noise_schedule(pipeline: StableDiffusionPipeline) -> None:
    own = pipeline.scheduler.alphas_cumprod
    for name, class_name in SCHEDULERS.items():
        scheduler = StableDiffusion().scheduler(pipeline, Sampling(5, name), SIZE)  # type: ignore[arg-type]
        assert type(scheduler).__name__ == class_name and len(scheduler.timesteps) == 5
        assert torch.allclose(scheduler.alphas_cumprod, own)
    with pytest.raises(ConfigError, match="heun is not for Stable Diffusion 1"):
        StableDiffusion().scheduler(pipeline, Sampling(5, "heun"), SIZE)  # type: ignore[arg-type]


@pytest.fixture(params=["lcm", "sde-dpmsolver++"])
def random(request: pytest.FixtureRequest) -> tuple[StableDiffusionPipeline, Sampling]:
    """Samplers that draw noise in every step."""
    own = load_pipeline(MODELS)
    if request.param == "lcm":
        return own, Sampling(STEPS, "lcm")
    scheduler_class = diffusers.DPMSolverMultistepScheduler
    own.scheduler = scheduler_class.from_config(own.scheduler.config, algorithm_type=request.param)
    return own, Sampling(STEPS)


@pytest.mark.slow
def test_where_steps_draw_noise_each_image_depends_on_its_own_seed(
    random: tuple[StableDiffusionPipeline, Sampling],
) -> None:
    pipeline, sampling = random
    batched = made(pipeline, wanted(pipeline, [2.0] * 4), sampling)
    for place, seed in enumerate(SEEDS):
        alone = made(pipeline, wanted(pipeline, [2.0], [seed]), sampling)[0]
        assert abs(batched[place] - alone).max() <= 1
    others = made(pipeline, wanted(pipeline, [2.0] * 4, (7, 28, 29, 30)), sampling)
    assert abs(others[0] - batched[0]).max() <= 1 and abs(others[1] - batched[1]).max() > 10


def test_such_a_sampler_does_draw_noise(random: tuple[StableDiffusionPipeline, Sampling]) -> None:
    pipeline, sampling = random
    batch = wanted(pipeline, [1.0], [7])

    plain_draw, calls = torch.randn, list[torch.Tensor]()

    def drawn(*arguments: Any, **more: Any) -> torch.Tensor:
        found = plain_draw(*arguments, **more)
        calls.append(found)
        return found if len(calls) == 1 else -found  # the first noise stays

    one = denoise(pipeline, batch, SIZE, sampling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", drawn)
        other = denoise(pipeline, batch, SIZE, sampling)
    assert len(calls) > 1 and (one - other).abs().max() > 0.1


def test_each_image_has_its_own_guidance(pipeline: StableDiffusionPipeline) -> None:
    strengths = [1.0, 7.5, 2.0, 0.5]
    batched = made(pipeline, wanted(pipeline, strengths), Sampling(STEPS))
    for place, (seed, strength) in enumerate(zip(SEEDS, strengths, strict=True)):
        alone = made(pipeline, wanted(pipeline, [strength], [seed]), Sampling(STEPS))[0]
        assert abs(batched[place] - alone).max() <= 1
    without = made(pipeline, wanted(pipeline, [1.0] * 4), Sampling(STEPS))
    changed = abs(without - batched).max((1, 2, 3))
    assert changed[1] > 10 and changed[2] > 10 and changed[0] <= 1 and changed[3] <= 1


@pytest.mark.parametrize(
    ("until", "guidance", "batches"),
    [
        (1.0, [2.0, 2.0], [4] * 6),
        (0.5, [2.0, 2.0], [4, 4, 4, 2, 2, 2]),
        (0.5, [1.0, 3.0], [4, 4, 4, 2, 2, 2]),
        (1 / 3, [2.0, 2.0], [4, 4, 2, 2, 2, 2]),
        (1.0, [1.0, 1.0], [2] * 6),
    ],
)
def test_guidance_doubles_the_batch_in_its_share_of_the_steps_and_no_other(
    pipeline: StableDiffusionPipeline, until: float, guidance: list[float], batches: list[int]
) -> None:
    seen, unet = [], network_of(pipeline)

    def predict(sample: torch.Tensor, time: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        assert len(sample) == len(conditions["text"])
        seen.append(len(sample))
        return unet(sample, time, conditions)

    batch = wanted(pipeline, guidance, SEEDS[:2])
    counted = made(pipeline, batch, Sampling(6, guidance_until=until), predict=predict)
    assert seen == batches
    assert (counted == made(pipeline, batch, Sampling(6, guidance_until=until))).all()


def test_guidance_that_ends_early_is_guidance_and_then_none(pipeline: StableDiffusionPipeline) -> None:
    """By hand: DDIM's own formula, guided for two steps of four."""
    batch = wanted(pipeline, [4.0], [7])
    sampling = Sampling(4, "ddim", guidance_until=0.5)
    scheduler, unet = StableDiffusion().scheduler(pipeline, sampling, SIZE), network_of(pipeline)
    alphas = scheduler.alphas_cumprod
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    times = scheduler.timesteps.tolist()
    with torch.no_grad():
        for index, t in enumerate(times):
            noise = unet(x, torch.tensor(t), batch.positive)
            if index < 2:
                against = unet(x, torch.tensor(t), batch.negative)
                noise = 4 * noise - 3 * against
            now, then = alphas[t], alphas[times[index + 1]] if index < 3 else scheduler.final_alpha_cumprod
            clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
            x = then.sqrt() * clean + (1 - then).sqrt() * noise
    assert torch.allclose(denoise(pipeline, batch, SIZE, sampling), x, atol=1e-3)
    throughout = denoise(pipeline, batch, SIZE, Sampling(4, "ddim"))
    assert (throughout - x).abs().max() > 0.1


@pytest.mark.parametrize("until", [1.0, 0.5])
def test_a_batch_of_several_adapters_stays_in_their_order_when_guidance_doubles_it(
    pipeline: StableDiffusionPipeline, until: float
) -> None:
    stack = StackedAdapters(pipeline.unet, 4, 8, ("to_q", "to_k", "to_v", "to_out.0"))
    weights = torch.randn(2, stack.size, generator=torch.Generator().manual_seed(0)) * 0.05
    sampling = Sampling(STEPS, guidance_until=until)
    with stack.using(weights):
        batched = made(pipeline, wanted(pipeline, [2.0, 5.0, 3.0, 1.0]), sampling, adapters=2)
    alone = []
    for row, guidance, seeds in ((0, [2.0, 5.0], SEEDS[:2]), (1, [3.0, 1.0], SEEDS[2:])):
        with stack.using(weights[row : row + 1]):
            alone.append(made(pipeline, wanted(pipeline, guidance, seeds), sampling))
    stack.remove()
    base = made(pipeline, wanted(pipeline, [2.0, 5.0, 3.0, 1.0]), sampling)
    assert abs(batched - np.concatenate(alone)).max() <= 1
    assert abs(batched - base).max((1, 2, 3)).min() > 10, "adapters that change nothing prove nothing"


def test_before_each_step_is_called_once_and_in_order(pipeline: StableDiffusionPipeline) -> None:
    calls: list[Any] = []
    unet = network_of(pipeline)

    def predict(*arguments: Any) -> torch.Tensor:
        calls.append("unet")
        return unet(*arguments)

    batch = wanted(pipeline, [2.0, 2.0], SEEDS[:2])
    made(pipeline, batch, Sampling(3), predict=predict, before_step=calls.append)
    assert calls == [0, "unet", 1, "unet", 2, "unet"]


@pytest.mark.slow
def test_images_do_not_depend_on_the_size_or_the_order_of_the_batch(pipeline: StableDiffusionPipeline) -> None:
    seeds = list(range(100, 116))
    guidance = {seed: 1.0 + seed % 3 for seed in seeds}

    def images(some: Sequence[int]) -> dict[int, Images]:
        batch = wanted(pipeline, [guidance[seed] for seed in some], some)
        return dict(zip(some, made(pipeline, batch, Sampling(STEPS)), strict=True))

    whole = images(seeds)
    by_fours = [images(seeds[start::4]) for start in range(4)]
    others = [images(seeds[::-1]), *by_fours, *(images([seed]) for seed in (100, 107, 115))]
    assert sum(map(len, others)) == 16 + 16 + 3
    for found in others:
        assert max(abs(pixels - whole[seed]).max() for seed, pixels in found.items()) <= 1
    assert abs(whole[100] - whole[102]).max() > 10


def test_pixels_are_rounded_and_within_their_range(pipeline: StableDiffusionPipeline) -> None:
    class Vae:
        """Stands in for the VAE: its latents are the image."""

        config, dtype = pipeline.vae.config, torch.float32

        def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            """The image in -1..1."""
            return (latents * self.config.scaling_factor,)

    stub = type("StableDiffusionPipeline", (), {"vae": Vae()})()
    values = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 0.006]).view(1, 1, 2, 4).expand(1, 3, 2, 4)
    pixels = to_pixels(stub, values)
    assert pixels.dtype == np.uint8 and pixels.shape == (1, 2, 4, 3)
    # (x + 1) * 127.5, to the nearest whole number, halves to even ones.
    assert pixels[0, ..., 0].ravel().tolist() == [0, 0, 64, 128, 191, 255, 255, 128]


@pytest.mark.parametrize("size", [33, 34, 35, 2])
def test_a_size_that_is_no_multiple_of_the_vaes_factor_is_refused(pipeline: StableDiffusionPipeline, size: int) -> None:
    text = rf"^models\.image_size is {size}; the base model needs a multiple of 4: set --models\.image_size "
    with pytest.raises(ConfigError, match=text):
        denoise(pipeline, wanted(pipeline, [2.0], [7]), size, Sampling(2))
    with pytest.raises(ConfigError, match=text):
        first_noise(pipeline, [torch.Generator()], size)


def test_a_size_that_is_a_multiple_is_made_in_full(pipeline: StableDiffusionPipeline) -> None:
    assert first_noise(pipeline, [torch.Generator(), torch.Generator()], 36).shape == (2, 4, 9, 9)
    found = to_pixels(pipeline, denoise(pipeline, wanted(pipeline, [2.0], [7]), 40, Sampling(2)))
    assert found.shape == (1, 40, 40, 3)


def test_a_unet_that_takes_guidance_as_an_input_is_refused(tmp_path: Path) -> None:
    shutil.copytree(demo_folder("diffusion"), tmp_path / "own")
    file = tmp_path / "own" / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"time_cond_proj_dim": 8}), "utf-8")
    with pytest.raises(ConfigError, match=r"takes guidance as an input of its UNet .*, which is not supported"):
        load_pipeline(MODELS.model_copy(update={"diffusion": str(tmp_path / "own")}))

"""Many adapters trained at once equal each of them trained alone by peft, whatever the lot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import FinetuneConfig
from fairsynth.groups import Group
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.denoising import Latents, Sampler
from fairsynth.stages.lot_state import LotState, Trained, load_state, save_state
from fairsynth.stages.stacked_training import StackedTrainer
from tests.peft_alone import Alone, train_alone

CONFIG = FinetuneConfig(
    rank=4,
    alpha=8,
    target_modules=("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "conv2"),
    batch_size=3,
    prior_batch_size=2,
    prior_weight=0.5,
    max_grad_norm=0.05,
    validation_share=0,
)
WIDTH = 16


def tiny_unet(kind: torch.dtype = torch.float32, **changed: object) -> UNet2DConditionModel:
    """A UNet of the classes of Stable Diffusion 1.x with random weights."""
    torch.manual_seed(0)
    shape: dict[str, object] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": WIDTH,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**{**shape, **changed}).to(kind).requires_grad_(False)


def scheduler(prediction: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction)


def jobs(count: int, steps: int) -> list[AdapterJob]:
    """Adapters with different clusters, seeds, learning rates, warm-ups and step counts."""
    return [
        AdapterJob(
            Group("low", "flower"), i, tuple("abcdefgh"[: 2 + i]), f"a sks{i} low", "a low", 100 + i,
            steps - 7 * (i % 3), 1e-3 * (1 + i % 4), 5 * (i % 2),
        )
        for i in range(count)
    ]  # fmt: skip


def latents_of(job: AdapterJob, count: int | None = None) -> Latents:
    """Latents that differ between jobs, as many as the job has images."""
    rng = np.random.default_rng(job.seed)
    mean, std, prior = (rng.standard_normal((count or len(job.image_ids), 4, 8, 8)).astype(np.float32) for _ in "abc")
    return Latents(mean, np.abs(std) * 0.1, prior)


def texts_of(work: list[AdapterJob]) -> dict[str, torch.Tensor]:
    """An embedding of each prompt."""
    prompts = sorted({prompt for job in work for prompt in (job.prompt, job.class_prompt)})
    generator = torch.Generator().manual_seed(1)
    return {prompt: torch.randn(5, WIDTH, generator=generator) for prompt in prompts}


def train(
    unet: UNet2DConditionModel, work: list[AdapterJob], config: FinetuneConfig = CONFIG, width: int = 16, **options: object
) -> dict[str, Trained]:
    """Train a lot; the result by name."""
    found: dict[str, Trained] = {}
    noise = options.pop("scheduler", scheduler())
    load = options.pop("load", latents_of)
    trainer = StackedTrainer(unet, noise, config, texts_of(work), load, width)  # type: ignore[arg-type]
    trainer.train(work, lambda result: found.__setitem__(result.job.name, result), **options)  # type: ignore[arg-type]
    return found


def alone(unet: UNet2DConditionModel, job: AdapterJob, work: list[AdapterJob], config: FinetuneConfig, noise: DDPMScheduler) -> Alone:
    """The same adapter by peft."""
    stack = StackedAdapters(unet, config.rank, config.alpha, config.target_modules)
    initial = stack.state(stack.initial(job.seed).to(unet.dtype))
    stack.remove()
    sampler = Sampler(latents_of(job), job.seed, config, 1000)
    return train_alone(unet, noise, config, job, sampler, texts_of(work), initial)


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Relative error of all tensors together."""
    assert ours.keys() == theirs.keys()
    apart = sum(float((ours[k].double() - theirs[k].double()).square().sum()) for k in ours)
    return (apart / sum(float(v.double().square().sum()) for v in theirs.values())) ** 0.5


@pytest.mark.parametrize("case", [
    {}, {"prior": "images"}, {"snr_ceiling": None}, {"generator": "lora"}, {"prediction": "v_prediction"}
])  # fmt: skip
def test_eight_stacked_adapters_equal_eight_solo_runs_of_peft(case: dict[str, str]) -> None:
    options = dict(case)
    noise = scheduler(options.pop("prediction", "epsilon"))
    config, unet = CONFIG.model_copy(update=options), tiny_unet(torch.float64)
    work = jobs(8, 100 if not case else 30)
    found = train(unet, work, config, width=5, scheduler=noise)
    assert sorted(found) == sorted(job.name for job in work)
    for job in work:
        solo = alone(unet, job, work, config, noise)
        assert difference(dict(found[job.name].weights or {}), solo.weights) <= 1e-8, job.name
        assert difference(solo.weights, alone_start(unet, job, config)) > 0.01, "an adapter that has not moved proves nothing"


def alone_start(unet: UNet2DConditionModel, job: AdapterJob, config: FinetuneConfig) -> dict[str, torch.Tensor]:
    """The weights before the first step."""
    stack = StackedAdapters(unet, config.rank, config.alpha, config.target_modules)
    stack.remove()
    return stack.state(stack.initial(job.seed).to(unet.dtype))


@pytest.mark.parametrize(("kind", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_losses_and_gradients_of_the_first_step_equal_those_of_peft(kind: torch.dtype, limit: float) -> None:
    unet, work = tiny_unet(kind), jobs(8, 1)
    work = [replace(job, steps=1) for job in work]
    trainer = StackedTrainer(unet, scheduler(), CONFIG, texts_of(work), latents_of, 8)
    stack = StackedAdapters(unet, CONFIG.rank, CONFIG.alpha, CONFIG.target_modules)
    weights = torch.stack([stack.initial(job.seed).to(kind) for job in work])
    draws = [Sampler(latents_of(job), job.seed, CONFIG, 1000)(0) for job in work]
    texts = torch.stack([torch.stack([texts_of(work)[p] for p in (job.prompt, job.class_prompt)]) for job in work])
    losses, _, gradients = trainer.step_gradient(stack, weights, draws, texts)
    ours = [stack.state(row) for row in gradients]
    stack.remove()
    for index, job in enumerate(work):
        solo = alone(unet, job, work, CONFIG, scheduler())
        assert losses[index].item() == pytest.approx(solo.losses[0], rel=limit)
        theirs = {name.replace(f".{'alone_by_peft'}", ""): value for name, value in solo.first_gradients.items()}
        assert difference(ours[index], theirs) <= limit

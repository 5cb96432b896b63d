"""Lots of adapters on tiny UNets, trained in a moment: what the tests of fine-tuning share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from fairsynth.config import FinetuneConfig
from fairsynth.groups import Group
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.families.noise import Diffusion
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.finetune.denoising import Draw, Latents, Sampler
from fairsynth.stages.finetune.full_training import FullState, FullTrainer, Ranks
from fairsynth.stages.finetune.jobs import AdapterJob, Kinds
from fairsynth.stages.finetune.lot_state import LotState, Progress, Row, Trained
from fairsynth.stages.finetune.stacked_training import StackedTrainer

WIDTH, SIDE, TIMESTEPS = 16, 4, 1000
CONFIG = FinetuneConfig(
    rank=2,
    alpha=4,
    target_modules=("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "conv2"),
    batch_size=2,
    prior_batch_size=1,
    prior_weight=0.5,
    max_grad_norm=0.05,
    validation_share=0,
)
# Half of every cluster is held out.
VALIDATING = CONFIG.model_copy(
    update={"validation_share": 0.5, "validation_min_images": 2, "validation_samples": 4, "validate_every": 2}
)
TWO_LEVELS = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
ONE_LEVEL = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "mid_block_type": None,
}
Weights = Mapping[str, torch.Tensor]
Change = Callable[[AdapterJob, int, int, Draw], Draw]


def tiny_unet(dtype: torch.dtype = torch.float32, shape: Mapping[str, object] = ONE_LEVEL) -> UNet2DConditionModel:
    """A UNet of the classes of Stable Diffusion 1.x with random weights."""
    torch.manual_seed(0)
    same = {"layers_per_block": 1, "norm_num_groups": 2, "attention_head_dim": 2, "cross_attention_dim": WIDTH}
    unet = UNet2DConditionModel(sample_size=SIDE, **same, **shape)
    # Not unet.to(dtype): diffusers has something to say about that each time.
    return torch.nn.Module.to(unet, dtype).requires_grad_(False)


def scheduler(prediction: str = "epsilon") -> DDPMScheduler:
    """The noise schedule of Stable Diffusion 1.x."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction)


def noise_of(prediction: str = "epsilon") -> Diffusion:
    """The noise of training with that schedule."""
    return Diffusion(scheduler(prediction))


def denoiser_of(unet: UNet2DConditionModel, noise: DDPMScheduler | None = None) -> Denoiser:
    """What a trainer needs of a UNet."""
    return Denoiser(unet, Diffusion(noise or scheduler()), StableDiffusion())


def jobs(steps: Sequence[int]) -> list[AdapterJob]:
    """Adapters with so many steps, and different clusters, seeds, learning rates and warm-ups."""
    return [
        AdapterJob(
            Group("low", "flower"), i, tuple("abcdefghij"[: 2 + i]), f"a sks{i} low", "a low", 100 + i,
            count, 1e-3 * (1 + i % 4), 5 * (i % 2),
        )
        for i, count in enumerate(steps)
    ]  # fmt: skip


def shared_job(steps: int) -> AdapterJob:
    """An adapter that three groups share, of 6, 1 and 3 images."""
    kinds = Kinds(("a low flower", "a low building", "a high flower"), (0, 2, 0, 1, 0, 2, 0, 0, 2, 0), 0.2)
    return AdapterJob(Group("", ""), 0, tuple("abcdefghij"), "", "", 41, steps, 2e-3, 5, kinds)


def changed(job: AdapterJob, **values: Any) -> AdapterJob:
    """The same job but for some values."""
    return replace(job, **values)


def latents_of(job: AdapterJob) -> Latents:
    """Latents that differ between jobs, as many as the job has images."""
    rng, shape = np.random.default_rng(job.seed), (len(job.image_ids), 4, SIDE, SIDE)
    mean, std, prior = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    return Latents(mean, np.abs(std) * np.float32(0.1), prior)


def latents_of_shapes(job: AdapterJob) -> Latents:
    """The same of squares, upright and lying images in turn."""
    rng, shapes = np.random.default_rng(job.seed), ((4, SIDE, SIDE), (4, SIDE, SIDE // 2), (4, SIDE // 2, SIDE))
    images = [shapes[i % 3] for i in range(len(job.image_ids))]
    mean, std = ([rng.standard_normal(shape).astype(np.float32) for shape in images] for _ in range(2))
    return Latents(mean, [np.abs(part) * np.float32(0.1) for part in std])


def texts_of(work: Sequence[AdapterJob]) -> dict[str, Conditions]:
    """An embedding of each prompt, whatever other prompts there are."""
    prompts = {prompt for job in work for prompt in job.texts}
    seeded = {prompt: torch.Generator().manual_seed(sum(map(ord, prompt))) for prompt in prompts}
    return {prompt: {"text": torch.randn(5, WIDTH, generator=generator)} for prompt, generator in seeded.items()}


def trainer_of(
    unet: UNet2DConditionModel,
    work: Sequence[AdapterJob],
    config: FinetuneConfig = CONFIG,
    width: int | None = 8,
    noise: DDPMScheduler | None = None,
    load: Callable[[AdapterJob], Latents] = latents_of,
    **more: Any,
) -> StackedTrainer:
    """A trainer for these jobs."""
    return StackedTrainer(denoiser_of(unet, noise), config, texts_of(work), load, width, **more)


def train(
    unet: UNet2DConditionModel,
    work: Sequence[AdapterJob],
    config: FinetuneConfig = CONFIG,
    width: int | None = 8,
    noise: DDPMScheduler | None = None,
    load: Callable[[AdapterJob], Latents] = latents_of,
    **options: Any,
) -> dict[str, Trained]:
    """Train a lot; the results by name."""
    return run(trainer_of(unet, work, config, width, noise, load), work, **options)


def run(trainer: StackedTrainer, work: Sequence[AdapterJob], **options: Any) -> dict[str, Trained]:
    """Train a lot with a trainer; the results by name, each once."""
    found: list[Trained] = []
    trainer.train(work, found.append, **options)
    named = {result.job.name: result for result in found}
    assert len(named) == len(found), "an adapter was handed over twice"
    return named


def stack_of(unet: UNet2DConditionModel, config: FinetuneConfig = CONFIG) -> StackedAdapters:
    """The mapping between rows and named weights, without hooks."""
    stack = StackedAdapters(unet, config.rank, config.alpha, config.target_modules)
    stack.remove()
    return stack


def fresh(unet: UNet2DConditionModel, job: AdapterJob, config: FinetuneConfig = CONFIG) -> dict[str, torch.Tensor]:
    """An adapter's weights before its first step, in the UNet's number format."""
    stack = stack_of(unet, config)
    return stack.state(stack.initial(job.seed).to(unet.dtype))


def row_of(state: LotState, name: str) -> Row:
    """One adapter of a checkpoint."""
    return state.row([progress.name for progress in state.rows].index(name))


def difference(ours: Weights | None, theirs: Weights | None) -> float:
    """Relative error of all tensors together."""
    assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
    apart = sum(float((ours[k].double() - theirs[k].double()).square().sum()) for k in ours)
    return (apart / sum(float(v.double().square().sum()) for v in theirs.values())) ** 0.5


def same_bits(ours: Weights | None, theirs: Weights | None) -> bool:
    """Whether all tensors are equal to the last bit."""
    assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def furthest_apart(ours: Mapping[str, Trained], theirs: Mapping[str, Trained]) -> float:
    """The largest difference between the same adapter's weights in two results that have the same adapters."""
    assert ours.keys() == theirs.keys() and ours
    return max(difference(ours[name].weights, theirs[name].weights) for name in ours)


def recorded_losses(trainer: StackedTrainer, work: Sequence[AdapterJob]) -> dict[str, list[float]]:
    """Let the trainer note every loss under its adapter's name, whom its prompt's embedding tells."""
    noted: dict[str, list[float]] = defaultdict(list)
    plain = trainer.step_gradient

    def noting(stack: Any, weights: Any, draws: Any, texts_NK: Conditions) -> Any:
        found = plain(stack, weights, draws, texts_NK)
        for text, loss in zip(texts_NK["text"][:, 0], found[0].tolist(), strict=True):
            (job,) = (job for job in work if torch.equal(trainer.texts[job.prompt]["text"].to(text), text))
            noted[job.name].append(loss)
        return found

    trainer.step_gradient = noting  # type: ignore[method-assign, assignment]
    return noted


def change_draws(monkeypatch: pytest.MonkeyPatch, work: Sequence[AdapterJob], change: Change) -> None:
    """Let ``change`` (of job, step, attempt and draw) have its way with what the samplers draw."""
    plain, of_seed = Sampler.__call__, {job.seed: job for job in work}

    def drawn(self: Sampler, step: int, attempt: int = 0) -> Draw:
        return change(of_seed[self.seed], step, attempt, plain(self, step, attempt))

    monkeypatch.setattr(Sampler, "__call__", drawn)


def broken(draw: Draw) -> Draw:
    """A draw whose loss is not a number."""
    return replace(draw, clean=draw.clean * float("nan"))


def break_once(monkeypatch: pytest.MonkeyPatch, work: Sequence[AdapterJob], clusters: Mapping[int, int]) -> None:
    """Break these adapters' draws at a step, in the first attempt."""

    def change(job: AdapterJob, step: int, attempt: int, draw: Draw) -> Draw:
        return broken(draw) if attempt == 0 and clusters.get(job.cluster) == step else draw

    change_draws(monkeypatch, work, change)


class Passes:
    """The batch size of every pass through a UNet; above ``limit`` samples there is no memory."""

    def __init__(self, unet: UNet2DConditionModel, limit: int | None = None) -> None:
        self.sizes: list[int] = []
        self.limit = limit
        self._hook = unet.register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if self.limit is not None and len(args[0]) > self.limit:
            raise torch.cuda.OutOfMemoryError("pretended")
        self.sizes.append(len(args[0]))

    def remove(self) -> None:
        """Look no longer."""
        self._hook.remove()


# Eight images and a warm-up.
FULL_JOB = changed(jobs([10] * 7)[6], learning_rate=1e-3, warmup_steps=4)


def full_trainer(config: FinetuneConfig, dtype: torch.dtype = torch.float64, ranks: Ranks | None = None) -> FullTrainer:
    """A trainer of all weights of a tiny UNet of its own."""
    return FullTrainer(denoiser_of(tiny_unet(dtype)), config, texts_of(jobs([1] * 7)), ranks)


def train_full(
    config: FinetuneConfig, job: AdapterJob = FULL_JOB, dtype: torch.dtype = torch.float64, **options: Any
) -> Trained:
    """Train a UNet on one cluster."""
    return full_trainer(config, dtype).train(job, latents_of(job), **options)


def kept_full(
    config: FinetuneConfig, job: AdapterJob = FULL_JOB, dtype: torch.dtype = torch.float64
) -> tuple[Trained, list[FullState]]:
    """Train with a checkpoint at every step; the result and the checkpoints, all of whose numbers are finite."""
    states: list[FullState] = []
    found = train_full(config.model_copy(update={"checkpoint_every": 1}), job, dtype, checkpoint=states.append)
    assert all(torch.isfinite(tensor).all() for state in states for tensor in state.tensors.values())
    return found, states


def progress_facts(progress: Progress) -> tuple[object, ...]:
    """The facts of an adapter's progress."""
    return progress.name, progress.step, progress.attempt, progress.since, progress.fault, tuple(progress.validation)

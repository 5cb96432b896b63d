"""Stage 4, finetune: the training of adapters on a frozen Stable Diffusion.

An adapter depends on its images, its prompt and its seed: never on the adapters trained beside it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import FinetuneConfig, ModelsConfig, SynthesizeConfig
from fairsynth.errors import FairsynthError
from fairsynth.manifest import seed_for
from fairsynth.models import adapters
from fairsynth.models.diffusion import encode_prompts, generate, load_pipeline, training_scheduler
from fairsynth.vectors import vectors


class ClassLatents:
    """Makes the class images of one class prompt with the base model, as latents: shared by all its adapters.

    Units are named by the hash of the prompt; ``__call__`` returns a table with the column ``mean``.
    """

    def __init__(
        self,
        models: ModelsConfig,
        config: FinetuneConfig,
        synthesize: SynthesizeConfig,
        prompts: Mapping[str, str],
        seed: int,
    ) -> None:
        self.models, self.config, self.synthesize, self.prompts, self.seed = models, config, synthesize, prompts, seed
        self.pipeline = load_pipeline(models)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        name = task["name"]
        seeds = [seed_for(self.seed, "class", name, i) for i in range(self.config.class_images)]
        parts = []
        for start in range(0, len(seeds), self.synthesize.unit_size):
            part = seeds[start : start + self.synthesize.unit_size]
            parts.append(
                generate(
                    self.pipeline,
                    [self.prompts[name]] * len(part),
                    [self.synthesize.negative_prompt] * len(part),
                    part,
                    self.models.image_size,
                    self.synthesize.steps,
                    self.synthesize.guidance,
                    latents_only=True,
                )
            )
        latents = np.concatenate(parts)
        return {"latents": pa.table({"mean": vectors(latents.reshape(len(latents), -1))})}


@dataclass(frozen=True)
class Latents:
    """What an adapter is trained on: posterior mean and std (N, C, h, w), and class latents (M, C, h, w) or None."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    prior: NDArray[np.float32] | None


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint: weights, optimizer moments and the number of steps done."""

    step: int
    tensors: Mapping[str, torch.Tensor]


class AdapterTrainer:
    """Trains adapters on one frozen pipeline.

    ``train`` is the seam for training many adapters in one pass: a caller hands over jobs and
    gets weights, and nothing outside this class knows how the optimizer steps are laid out.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, config: FinetuneConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self.scheduler = training_scheduler(pipeline)

    def train(
        self,
        job: AdapterJob,
        latents: Latents,
        resume: Snapshot | None = None,
        checkpoint: Callable[[Snapshot], None] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Train one adapter and return its weights in peft's names.

        Every draw comes from (job.seed, step), so a run resumed from a snapshot ends with the same bits.
        Raises FairsynthError if the loss is not finite.
        """
        config, unet = self.config, self.pipeline.unet
        parameters = adapters.add_adapter(unet, config.rank, config.alpha, config.target_modules, job.seed % 2**63)
        try:
            optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
            start = _restore(unet, optimizer, resume)
            texts = self._texts(job, latents)
            for step in range(start, job.steps):
                loss = self._loss(job, latents, texts, step)
                if not torch.isfinite(loss):
                    raise FairsynthError(
                        f"adapter {job.name}: the loss is {loss.item()} at step {step}; lower finetune.learning_rate"
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                if checkpoint and (step + 1) % config.checkpoint_every == 0 and step + 1 < job.steps:
                    checkpoint(_snapshot(unet, optimizer, step + 1))
            return adapters.adapter_state(unet)
        finally:
            adapters.remove_adapter(unet)

    def _texts(self, job: AdapterJob, latents: Latents) -> torch.Tensor:
        size = self.config.batch_size
        embeddings = encode_prompts(self.pipeline, [job.prompt, job.class_prompt])
        texts = embeddings[:1].expand(size, -1, -1)
        return texts if latents.prior is None else torch.cat([texts, embeddings[1:].expand(size, -1, -1)])

    def _loss(self, job: AdapterJob, latents: Latents, texts: torch.Tensor, step: int) -> torch.Tensor:
        """Noise-prediction loss on a batch of the cluster plus, weighted, on a batch of class images."""
        size, device = self.config.batch_size, self.pipeline.device
        rng = torch.Generator().manual_seed(seed_for(job.seed, step))
        clean = _draw(latents.mean, latents.std, size, rng)
        if latents.prior is not None:
            clean = torch.cat([clean, _draw(latents.prior, None, size, rng)])
        noise = torch.randn(clean.shape, generator=rng)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(clean),), generator=rng)
        noisy = self.scheduler.add_noise(clean, noise, times)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.pipeline.unet.dtype == torch.bfloat16):
            predicted = self.pipeline.unet(noisy.to(device), times.to(device), texts).sample
        target = (
            noise
            if self.scheduler.config.prediction_type == "epsilon"
            else self.scheduler.get_velocity(clean, noise, times)
        )
        errors = (predicted.float() - target.to(device)).square().mean((1, 2, 3)) * loss_weights(
            self.scheduler, times, self.config.snr_ceiling
        ).to(device)
        if latents.prior is None:
            return errors.mean()
        return errors[:size].mean() + self.config.prior_weight * errors[size:].mean()


def loss_weights(scheduler: DDPMScheduler, times_N: torch.Tensor, ceiling: float | None) -> torch.Tensor:
    """Min-SNR weights (arXiv 2303.09556, eq. 4 and its v-prediction form): float32 (N,); ones without a ceiling."""
    if ceiling is None:
        return torch.ones(len(times_N))
    alphas = scheduler.alphas_cumprod[times_N].float()
    snr = alphas / (1 - alphas)
    return snr.clamp(max=ceiling) / (snr if scheduler.config.prediction_type == "epsilon" else snr + 1)


def _draw(mean: NDArray[np.float32], std: NDArray[np.float32] | None, size: int, rng: torch.Generator) -> torch.Tensor:
    """A batch drawn with replacement: fresh latents from the posterior, or given latents as they are."""
    index = torch.randint(0, len(mean), (size,), generator=rng)
    clean = torch.from_numpy(mean)[index]
    return clean if std is None else clean + torch.from_numpy(std)[index] * torch.randn(clean.shape, generator=rng)


def _snapshot(unet: Any, optimizer: torch.optim.Optimizer, step: int) -> Snapshot:
    tensors = {f"weights.{name}": value for name, value in adapters.adapter_state(unet).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": torch.as_tensor(value).cpu().clone() for name, value in moments.items()
        }
    return Snapshot(step, tensors)


def _restore(unet: Any, optimizer: torch.optim.Optimizer, snapshot: Snapshot | None) -> int:
    if snapshot is None:
        return 0
    adapters.set_adapter_state(
        unet, {k.removeprefix("weights."): v for k, v in snapshot.tensors.items() if k.startswith("weights.")}
    )
    state = optimizer.state_dict()
    for key, value in snapshot.tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
    return snapshot.step


def save_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot (safetensors): the old one or the new one is there, never half of one."""
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    save_file({k: v.contiguous() for k, v in snapshot.tensors.items()}, partial, {"step": str(snapshot.step)})
    partial.replace(path)


def load_snapshot(path: Path) -> Snapshot | None:
    """Read a snapshot; None if there is none."""
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, "pt") as handle:
        return Snapshot(int(handle.metadata()["step"]), {key: handle.get_tensor(key) for key in handle.keys()})


def save_job(job: AdapterJob, weights: Mapping[str, torch.Tensor], config: FinetuneConfig, folder: Path) -> None:
    """Write an adapter's file and ``adapter.json``, which says what it was made from."""
    adapters.save_adapter(weights, folder, config.rank, config.alpha, config.target_modules)
    facts = {
        "name": job.name,
        "label": job.group.label,
        "attribute": job.group.attribute,
        "cluster": job.cluster,
        "images": len(job.image_ids),
        "prompt": job.prompt,
        "class_prompt": job.class_prompt,
        "seed": job.seed,
        "steps": job.steps,
        "generator": config.generator,
    }
    (folder / "adapter.json").write_text(json.dumps(facts, indent=1), "utf-8")

"""One adapter trained by peft and torch alone: what the stacked training must equal. Knows nothing of it but the draws."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from fairsynth.config import FinetuneConfig
from fairsynth.models.families.conditions import Conditions
from fairsynth.stages.finetune.denoising import Sampler
from fairsynth.stages.finetune.jobs import AdapterJob

NAME = "alone_by_peft"


@dataclass
class Alone:
    """What a solo run went through: losses per step, the first step's gradients, the weights at the end."""

    losses: list[float] = field(default_factory=list)
    first_gradients: dict[str, torch.Tensor] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def rate_of(job: AdapterJob, step: int) -> float:
    """Share of the learning rate at a step, the first being 0: a warm-up; for a shared adapter, a cosine too."""
    falling = 0.5 * (1 + math.cos(math.pi * step / job.steps)) if job.kinds else 1.0
    return min(1, (step + 1) / max(1, job.warmup_steps)) * falling


def train_alone(
    base: UNet2DConditionModel,
    scheduler: DDPMScheduler,
    config: FinetuneConfig,
    job: AdapterJob,
    sampler: Sampler,
    texts: Mapping[str, Conditions],
    initial: dict[str, torch.Tensor],
) -> Alone:
    """DreamBooth with LoRA as its public scripts do it: add_adapter, AdamW, clip_grad_norm_, a warm-up, a loop."""
    unet, teacher, found = copy.deepcopy(base), copy.deepcopy(base), Alone()
    unet.add_adapter(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.target_modules)), NAME
    )
    set_peft_model_state_dict(unet, initial, adapter_name=NAME)
    names = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(list(names.values()), lr=job.learning_rate, weight_decay=config.weight_decay)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_of(job, step))
    dtype, own = base.dtype, config.batch_size
    kind = scheduler.config.prediction_type
    for step in range(job.steps):
        draw = sampler(step)
        clean, noise, times = draw.clean.to(dtype), draw.noise.to(dtype), draw.levels
        prompts = [job.prompt] * own + [job.class_prompt] * (len(times) - own)
        if draw.texts is not None:
            prompts = [job.texts[i] for i in draw.texts.tolist()]
        context = torch.stack([texts[prompt]["text"] for prompt in prompts]).to(dtype)
        noisy = scheduler.add_noise(clean, noise, times)
        velocity = scheduler.get_velocity(clean, noise, times)
        target = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[kind].clone()
        if len(times) > own and config.prior == "teacher":
            with torch.no_grad():
                target[own:] = teacher(noisy[own:], times[own:], context[own:]).sample
        errors = (unet(noisy, times, context).sample - target).pow(2).mean(dim=(1, 2, 3))
        if config.snr_ceiling is not None:
            alphas = scheduler.alphas_cumprod[times]
            ratio = alphas / (1 - alphas)
            divided = {"epsilon": ratio, "v_prediction": ratio + 1, "sample": 1}[kind]
            errors = errors * (ratio.clamp(max=config.snr_ceiling) / divided).to(dtype)
        loss = errors[:own].mean()
        if len(times) > own:
            loss = loss + config.prior_weight * errors[own:].mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            found.first_gradients = {name: p.grad.clone() for name, p in names.items()}
        torch.nn.utils.clip_grad_norm_(list(names.values()), config.max_grad_norm)
        optimizer.step()
        warm.step()
        found.losses.append(loss.item())
    found.weights = {k: v.detach().clone() for k, v in get_peft_model_state_dict(unet, adapter_name=NAME).items()}
    return found

"""Settings of denoising, and the noise schedules that are known, as plain values: nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairsynth.config import Scheduler
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable

SCHEDULERS: Mapping[Scheduler, str] = {
    "dpm++": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}
# What a base model's network predicts, in diffusers' words: the noise, the velocity, or the image itself.
PREDICTIONS = ("epsilon", "v_prediction", "sample")
# Families of schedulers whose noise is not that of a DDPM, which training and sampling here take for granted.
_OTHER_NOISE = ("FlowMatch", "EDM")


def check_prediction(scheduler: Mapping[str, Any], model: str) -> None:
    """Raise ConfigError for a model whose network predicts what is not known here.

    ``scheduler``: its scheduler's configuration as saved; without a ``prediction_type`` diffusers means ``epsilon``.
    """
    predicts, made_for = scheduler.get("prediction_type", "epsilon"), str(scheduler.get("_class_name", ""))
    if any(family in made_for for family in _OTHER_NOISE) or scheduler.get("use_flow_sigmas"):
        predicts = f"the noise of {made_for}"
    elif predicts in PREDICTIONS:
        return
    raise ConfigError(
        f"models.diffusion: the network of {printable(model)!r} predicts {printable(str(predicts))!r} by its scheduler's "
        f"configuration, which is not supported; choose a model whose prediction_type is one of {', '.join(PREDICTIONS)}"
    )


def stackable(row: Mapping[str, Any]) -> bool:
    """Whether an image may share a batch with images of other adapters: it is made by one adapter, whole, throughout."""
    return bool(row["adapter"] and not row["second_adapter"] and not row["adapter_from"] and row["adapter_scale"] == 1)


@dataclass(frozen=True)
class Sampling:
    """Settings of denoising: scheduler, steps, the share of the steps, from the first on, that guidance is for, and a few-step
    sampler (hub id, folder or file, and a hub's commit) that is part of the network.
    """

    steps: int
    scheduler: Scheduler = "dpm++"
    guidance_until: float = 1.0
    few_steps: str | None = None
    few_steps_revision: str | None = None

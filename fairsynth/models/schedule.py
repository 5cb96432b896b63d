"""Settings of denoising, as plain values: nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairsynth.config import Scheduler

SCHEDULERS: Mapping[Scheduler, str] = {
    "dpm++": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}


def stackable(row: Mapping[str, Any]) -> bool:
    """Whether an image may share a batch with images of other adapters: it is made by one adapter, whole, throughout."""
    return bool(row["adapter"] and not row["second_adapter"] and not row["adapter_from"] and row["adapter_scale"] == 1)


@dataclass(frozen=True)
class Sampling:
    """Settings of denoising: scheduler, steps, and the share of the steps, from the first on, that guidance is for."""

    steps: int
    scheduler: Scheduler = "dpm++"
    guidance_until: float = 1.0

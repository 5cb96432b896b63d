"""How a training image is noised, and what the network should make of it: by diffusion, or by a flow.

Levels are whole numbers, 0 to ``levels - 1``: places in the noise schedule that the model comes with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler


class Noise(Protocol):
    """A model's noise in training."""

    levels: int

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Levels of so many samples, int64 (count,)."""

    def times(self, levels_N: torch.Tensor) -> torch.Tensor:
        """What the scheduler calls these levels, (N,)."""

    def noisy(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """Clean latents with noise."""

    def target(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """What the network should predict."""

    def weights(self, levels_N: torch.Tensor, snr_ceiling: float | None) -> torch.Tensor:
        """Weight of each sample in the loss, (N,)."""


class Diffusion:
    """Noise of a DDPM, at levels that are all as likely."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self.scheduler, self.levels = scheduler, int(scheduler.config.num_train_timesteps)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Levels of so many samples, int64 (count,)."""
        return torch.randint(0, self.levels, (count,), generator=generator)

    def times(self, levels_N: torch.Tensor) -> torch.Tensor:
        """The levels are the timesteps."""
        return levels_N

    def noisy(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """Clean latents with noise."""
        return self.scheduler.add_noise(clean_NCHW, noise_NCHW, levels_N)

    def target(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """What the network of such a model should predict, (N, C, h, w): noise, velocity (arXiv 2202.00512) or clean latents.

        Raises ValueError for another kind of prediction.
        """
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return noise_NCHW
            case "v_prediction":
                return self.scheduler.get_velocity(clean_NCHW, noise_NCHW, levels_N)
            case "sample":
                return clean_NCHW
            case other:
                raise ValueError(f"no training target is known for prediction_type {other!r}")

    def weights(self, levels_N: torch.Tensor, snr_ceiling: float | None) -> torch.Tensor:
        """Min-SNR weights (arXiv 2303.09556, eq. 4): float32 (N,); ones without a ceiling.

        The error of the clean latents weighs min(SNR, ceiling). That of the noise is SNR times as large, that of the velocity
        SNR + 1 times (arXiv 2202.00512, appendix D), so theirs is divided by it: the three are one loss.
        """
        if snr_ceiling is None:
            return torch.ones(len(levels_N))
        alphas = self.scheduler.alphas_cumprod[levels_N].float()
        # At zero terminal SNR the weight is the limit, 1 for the noise, and not 0 / 0.
        snr = (alphas / (1 - alphas)).clamp(min=torch.finfo(torch.float32).tiny)
        ratio = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
        return snr.clamp(max=snr_ceiling) / ratio[self.scheduler.config.prediction_type]


class Flow:
    """Noise of rectified flow (arXiv 2209.03003): a straight way from the image to the noise, whose velocity is learnt.

    ``density``: how likely levels are, in diffusers' words (``logit_normal``: arXiv 2403.03206, section 3.1; ``none``: all
    alike). The scheduler's own shift is in its table of sigmas. With ``weighs_clean`` the error of the clean latents weighs
    the same at all levels, as in diffusers' script for Stable Diffusion 3; else that of the velocity.
    """

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler, density: str, weighs_clean: bool = False) -> None:
        self.scheduler, self.density, self.levels = scheduler, density, int(scheduler.config.num_train_timesteps)
        self.weighs_clean = weighs_clean
        # Set once: a scheduler that is used for sampling replaces its tables.
        self.sigmas, self.timesteps = scheduler.sigmas[: self.levels].clone(), scheduler.timesteps.clone()

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Levels of so many samples, int64 (count,); 0 is nothing but noise."""
        spread: Mapping[str, Any] = {"logit_mean": 0.0, "logit_std": 1.0, "mode_scale": 1.29}
        # It brings all networks of diffusers with it, of which encoding an image needs none.
        from diffusers.training_utils import compute_density_for_timestep_sampling

        shares = compute_density_for_timestep_sampling(self.density, count, **spread, generator=generator)
        return (shares * self.levels).long().clamp(max=self.levels - 1)

    def times(self, levels_N: torch.Tensor) -> torch.Tensor:
        """Timesteps, float32, from near 1000 down."""
        return self.timesteps[levels_N]

    def noisy(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """So far on the way."""
        sigmas = self.sigmas[levels_N].to(clean_NCHW.dtype).view(-1, 1, 1, 1)
        return (1 - sigmas) * clean_NCHW + sigmas * noise_NCHW

    def target(self, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, levels_N: torch.Tensor) -> torch.Tensor:
        """The velocity of the way."""
        return noise_NCHW - clean_NCHW

    def weights(self, levels_N: torch.Tensor, snr_ceiling: float | None) -> torch.Tensor:
        """Ones: what levels weigh is how likely they are. Min-SNR weights are of diffusion alone.

        With ``weighs_clean`` the squares of the shares of noise, by which the error of the clean latents is that of the
        velocity, in float64.
        """
        if not self.weighs_clean:
            return torch.ones(len(levels_N))
        return self.sigmas[levels_N].double().square()

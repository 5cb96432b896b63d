"""What the UNet knows, told as a flow's velocities: a target with less chance in it than a single drawing."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from fairsynth.demo.pretrain.unet import CaptionTable


class Teacher:
    """The other base model's opinion of noisy latents: it sees the mean of what a single drawing is a sample of.

    Its noise prediction is told as a velocity. Near pure noise that divides by nearly nothing, so there the drawing itself
    is the better target.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, vae: AutoencoderKL) -> None:
        self.unet = pipeline.unet
        self.table = CaptionTable(pipeline.text_encoder, pipeline.tokenizer)
        kept = pipeline.scheduler.alphas_cumprod
        self.log_ratios = (((1 - kept) / kept).log() / 2).numpy()
        # Both autoencoders are the same, and so are their scales but for the third digit; the shift is the flow's alone.
        self.shift = vae.config.shift_factor * vae.config.scaling_factor

    @torch.no_grad()
    def __call__(self, noisy_NCHW: torch.Tensor, share_N: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """Velocities, float32 (N, C, H, W); ``share_N``: the share of noise, (0, 1)."""
        share = share_N[:, None, None, None]
        size = (share**2 + (1 - share) ** 2).sqrt()
        times = np.interp(torch.logit(share_N).numpy(), self.log_ratios, np.arange(len(self.log_ratios)))
        latents = (noisy_NCHW + (1 - share) * self.shift) / size
        noise = self.unet(latents, torch.from_numpy(times).float(), self.table(captions)).sample
        return (noise - noisy_NCHW) / (1 - share)

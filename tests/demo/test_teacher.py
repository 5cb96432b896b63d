"""The UNet as the flow transformer's teacher."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from fairsynth.demo.pretrain.corpus import draw_corpus
from fairsynth.demo.pretrain.teacher import Teacher
from fairsynth.demo.pretrain.vae import encode_corpus
from fairsynth.models.sources import demo_folder


def test_the_teachers_velocity_is_right_about_drawings() -> None:
    """It predicts noise minus latents better than the mean of all drawings does, whose error is their variance."""
    corpus = draw_corpus(40, 6, blank=0)
    base = StableDiffusionPipeline.from_pretrained(demo_folder("diffusion"), safety_checker=None)
    vae = AutoencoderKL.from_pretrained(demo_folder("diffusion") / "vae")
    vae.register_to_config(shift_factor=-0.06, scaling_factor=0.832)
    latents = (encode_corpus(vae, corpus)[0] + 0.06) * 0.832
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    share = torch.full((len(corpus),), 0.5)
    captions = corpus.captions(np.arange(len(corpus)), np.random.default_rng(0))
    velocity = Teacher(base, vae)(latents.lerp(noise, 0.5), share, captions)
    assert (velocity - (noise - latents)).square().mean() < 0.6

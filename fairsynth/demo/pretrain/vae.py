"""Step 1: the autoencoder, AutoencoderKL with 4 latent channels at a quarter of the side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from fairsynth.demo.pretrain.corpus import Corpus
from fairsynth.demo.pretrain.training import Average, Progress, learning_rate

KL_WEIGHT = 1e-4
COLOUR_WEIGHT = 3.0


def build_vae() -> AutoencoderKL:
    """A small AutoencoderKL with random weights."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )


def reconstruction_loss(decoded_N3HW: torch.Tensor, images_N3HW: torch.Tensor) -> torch.Tensor:
    """Squared error at full and at quarter resolution.

    With the first term alone, a model this small spends its four channels on edges and forgets colours.
    """
    error = decoded_N3HW - images_N3HW
    return error.square().mean() + COLOUR_WEIGHT * torch.nn.functional.avg_pool2d(error, 4).square().mean()


def _vivid(images_N3HW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror at random and scale the saturation of each image: photographs are more colourful than drawings."""
    factor = torch.from_numpy(rng.uniform(0.6, 2.2, (len(images_N3HW), 1, 1, 1)).astype(np.float32))
    grey = images_N3HW.mean(1, keepdim=True)
    vivid = (grey + factor * (images_N3HW - grey)).clamp(-1, 1)
    return vivid.flip(3) if rng.random() < 0.5 else vivid


def train_vae(
    corpus: Corpus, folder: Path, steps: int, seed: int, batch: int = 32, peak: float = 2e-3
) -> AutoencoderKL:
    """Train on mean squared error plus a light KL term; returns the averaged weights with their scaling factor."""
    torch.manual_seed(seed)
    vae = build_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    average, progress = Average(vae), Progress(folder / "vae-state.safetensors", "vae", steps)
    first = progress.resume(vae, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed)):
        if step < first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        images = _vivid(corpus.images(index), np.random.default_rng((seed, step, 1)))
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample(torch.Generator().manual_seed(step))).sample
        loss = reconstruction_loss(decoded, images) + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae, step)
        if progress.due(step, loss.item()):
            progress.save(step, vae, average, optimizer)
    vae.load_state_dict(average.weights)
    vae.eval().register_to_config(scaling_factor=round(float(1 / encode_corpus(vae, corpus, 2048)[0].std()), 5))
    return vae


@torch.no_grad()
def encode_corpus(vae: AutoencoderKL, corpus: Corpus, count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and standard deviation, float32 (N, 4, 8, 8) each, unscaled."""
    indices = np.arange(count or len(corpus))
    parts = [
        vae.encode(corpus.images(chunk)).latent_dist for chunk in np.array_split(indices, max(1, len(indices) // 256))
    ]
    return torch.cat([p.mean for p in parts]), torch.cat([p.std for p in parts])


@torch.no_grad()
def psnr(vae: AutoencoderKL, images_N3HW: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of reconstructions from the posterior mean; images in [-1, 1]."""
    decoded = vae.decode(vae.encode(images_N3HW).latent_dist.mean).sample.clamp(-1, 1)
    return float(-10 * torch.log10((decoded - images_N3HW).square().mean() / 4))

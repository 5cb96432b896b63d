"""200 tiny clusters with latents of noise, and a UNet so small that training them is a matter of seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import UNet2DConditionModel

from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.models.sources import demo_folder
from fairsynth.stages.finetune.jobs import AdapterJob

COUNT, IMAGES, PER_LOT, STEPS = 200, 6, 50, 30
CONFIG = FinetuneConfig(
    rank=2, alpha=2, batch_size=1, prior_batch_size=1, steps=60, learning_rate=1e-3, checkpoint_every=7,
    validation_share=0,
)  # fmt: skip


def many_jobs() -> list[AdapterJob]:
    """200 clusters with 15 to 30 steps."""
    return [
        AdapterJob(
            Group("low" if i % 2 else "high", f"kind {i // 2}"), 0, tuple(f"i{i:03d}{j}" for j in range(IMAGES)),
            f"a photo of a sks number {i % 7}", "a photo of a number", 1000 + i, STEPS - i % 16, CONFIG.learning_rate,
        )
        for i in range(COUNT)
    ]  # fmt: skip


def embeddings(folder: Path) -> list[Path]:
    """What embed leaves, for all images of the jobs, in a few files."""
    ids, paths = [image for job in many_jobs() for image in job.image_ids], []
    rng = np.random.default_rng(0)
    for start in range(0, len(ids), 400):
        part = ids[start : start + 400]
        mean, std = (rng.standard_normal((len(part), 4 * 8 * 8)).astype(np.float32) for _ in range(2))
        shape = pa.array([[4, 8, 8]] * len(part), pa.list_(pa.int32()))
        columns = {"image_id": part, "mean": vectors(mean), "std": vectors(np.abs(std) * 0.1), "latent_shape": shape}
        paths.append(folder / f"embeddings-{start}.parquet")
        pq.write_table(pa.table(columns), paths[-1])
    return paths


def models(folder: Path) -> ModelsConfig:
    """The demo's text encoder and noise schedule with a smaller UNet of random weights."""
    target = folder / "model"
    if not target.exists():
        shutil.copytree(demo_folder("diffusion"), target, ignore=shutil.ignore_patterns("diffusion_pytorch_model*"))
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
            cross_attention_dim=96, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
        unet.save_pretrained(target / "unet")
        vae = demo_folder("diffusion") / "vae"
        shutil.copytree(vae, target / "vae", dirs_exist_ok=True)
    return ModelsConfig(diffusion=str(target), image_size=32)

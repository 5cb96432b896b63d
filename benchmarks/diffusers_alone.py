"""DreamBooth with LoRA for one folder of images, on diffusers, peft, accelerate, transformers and torch alone.

``python benchmarks/diffusers_alone.py --model FOLDER --images FOLDER --prompt TEXT --output FOLDER`` trains one adapter.
It does what diffusers' public script train_dreambooth_lora.py does by default: a process of its own per subject, image files
decoded and prompts tokenised for every batch, VAE and text encoder run in every step, the loss read and shown after every
step, and at the end the pipeline loaded once more with the adapter in it. It knows nothing of fairsynth;
``finetune_vs_processes.py`` starts it once per cluster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.optimization import get_scheduler
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


class Models(NamedTuple):
    """The parts of a pipeline, all frozen."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler

    @classmethod
    def load(cls, folder: str) -> Models:
        """From a folder as save_pretrained writes it."""
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").requires_grad_(False)
        encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").requires_grad_(False)
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").requires_grad_(False)
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        return cls(vae, encoder, tokenizer, unet, DDPMScheduler.from_pretrained(folder, subfolder="scheduler"))


class Subject(Dataset[dict[str, torch.Tensor]]):
    """The image files of a folder, each with the prompt."""

    def __init__(self, folder: Path, prompt: str, tokenizer: CLIPTokenizer, size: int) -> None:
        self.paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        self.prompt, self.tokenizer, self.size = prompt, tokenizer, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        with Image.open(self.paths[index]) as image:
            square = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        tokens = self.tokenizer(
            self.prompt,
            truncation=True,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1) / 127.5 - 1
        return {"pixels": pixels, "tokens": tokens.input_ids[0]}


def loss_of(models: Models, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The denoising loss of one batch."""
    with torch.no_grad():
        latents = models.vae.encode(batch["pixels"]).latent_dist.sample() * models.vae.config.scaling_factor
        texts = models.text_encoder(batch["tokens"])[0]
    noise = torch.randn_like(latents)
    times = torch.randint(0, models.scheduler.config.num_train_timesteps, (len(latents),))
    noisy = models.scheduler.add_noise(latents, noise, times)
    return functional.mse_loss(models.unet(noisy, times, texts).sample, noise)


def train(models: Models, data: Subject, chosen: argparse.Namespace) -> None:
    """Give the UNet an adapter and train it."""
    models.unet.add_adapter(
        LoraConfig(
            r=chosen.rank, lora_alpha=chosen.alpha, init_lora_weights="gaussian", target_modules=chosen.target_modules
        )
    )
    parameters = [p for p in models.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=1e-2)
    # Full batches alone, as many passes as it takes: every step is of the same size.
    loader = DataLoader(data, chosen.batch_size, shuffle=True, drop_last=len(data) >= chosen.batch_size)
    schedule = get_scheduler("constant", optimizer, num_training_steps=chosen.steps)
    accelerator, bar = Accelerator(cpu=not torch.cuda.is_available()), tqdm(total=chosen.steps)
    unet, optimizer, loader, schedule = accelerator.prepare(models.unet, optimizer, loader, schedule)
    models = models._replace(unet=unet)
    models.unet.train()
    while bar.n < chosen.steps:
        for batch in loader:
            with accelerator.accumulate(models.unet):
                loss = loss_of(models, batch)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            bar.update()
            bar.set_postfix(loss=loss.detach().item(), lr=schedule.get_last_lr()[0])
            if bar.n == chosen.steps:
                return


def save(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the adapter as pipelines load it."""
    state: Any = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state)


def look(model: str, folder: Path) -> None:
    """Load the pipeline with the adapter, as the script does for its last images, of which none are made by default."""
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--target-modules", nargs="+", default=["to_q", "to_k", "to_v", "to_out.0"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    models = Models.load(chosen.model)
    train(models, Subject(chosen.images, chosen.prompt, models.tokenizer, chosen.size), chosen)
    save(models.unet, chosen.output)
    look(chosen.model, chosen.output)


if __name__ == "__main__":
    main()

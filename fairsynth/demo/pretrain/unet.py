"""Step 3: the UNet, UNet2DConditionModel on 8 x 8 x 4 latents, conditioned on the CLIP text tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from fairsynth.demo.pretrain.clip import CONTEXT, build_image_processor
from fairsynth.demo.pretrain.corpus import Corpus
from fairsynth.demo.pretrain.training import Average, Progress, learning_rate
from fairsynth.demo.pretrain.vae import encode_corpus

CAPTION_DROPOUT = 0.1
SNR_CEILING = 5.0


def build_unet(text_width: int) -> UNet2DConditionModel:
    """A small UNet with random weights and Stable Diffusion's block types."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.x's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """The CLIP's text tower as the CLIPTextModel of a pipeline."""
    tower = CLIPTextModel(clip.config.text_config)
    weights = {name.removeprefix("text_model."): value for name, value in clip.text_model.state_dict().items()}
    tower.load_state_dict(weights)
    return tower.eval()


class CaptionTable:
    """Text embeddings of captions, each computed once."""

    def __init__(self, tower: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.tower, self.tokenizer = tower, tokenizer
        self.known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> torch.Tensor:
        for caption in set(captions) - self.known.keys():
            ids = self.tokenizer(
                [caption], padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
            ).input_ids
            self.known[caption] = self.tower(input_ids=ids).last_hidden_state[0]
        return torch.stack([self.known[c] for c in captions])


def train_unet(
    corpus: Corpus,
    vae: AutoencoderKL,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    seed: int,
    batch: int = 64,
    peak: float = 1e-3,
) -> StableDiffusionPipeline:
    """Train noise prediction with min-SNR weights on cached latents; returns the whole pipeline."""
    torch.manual_seed(seed)
    table = CaptionTable(text_tower(clip), tokenizer)
    mean, std = (t * vae.config.scaling_factor for t in encode_corpus(vae, corpus))
    # Channels last: a tenth faster on CPUs.
    scheduler, unet = (
        build_scheduler(),
        build_unet(clip.config.text_config.hidden_size).to(memory_format=torch.channels_last),
    )
    print(f"unet: {sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters", flush=True)
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    average, progress = Average(unet), Progress(folder / "unet-state.safetensors", "unet", steps)
    first = progress.resume(unet, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed + 2)):
        if step < first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        rng, generator = np.random.default_rng((seed, step, 3)), torch.Generator().manual_seed(step)
        captions = [c if rng.random() >= CAPTION_DROPOUT else "" for c in corpus.captions(index, rng)]
        latents = mean[index] + std[index] * torch.randn(mean[index].shape, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.randint(0, 1000, (batch,), generator=generator)
        predicted = unet(scheduler.add_noise(latents, noise, times), times, table(captions)).sample
        weight = snr[times].clamp(max=SNR_CEILING) / snr[times]
        loss = ((predicted - noise).square().mean((1, 2, 3)) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update(unet, step)
        if progress.due(step, loss.item()):
            progress.save(step, unet, average, optimizer)
    unet.load_state_dict(average.weights)
    return assemble(unet.eval(), vae, table.tower, tokenizer)


def assemble(
    unet: UNet2DConditionModel, vae: AutoencoderKL, tower: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a StableDiffusionPipeline in SD 1.x's layout."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=tower,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=build_image_processor(),
        requires_safety_checker=False,
    )

"""Step 4: the flow transformer, SD3Transformer2DModel on 8 x 8 x 4 latents, in the layout of Stable Diffusion 3."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModelWithProjection, CLIPTokenizer

from fairsynth.demo.pretrain.corpus import Corpus
from fairsynth.demo.pretrain.teacher import Teacher
from fairsynth.demo.pretrain.training import Average, MuonAndAdamW, Progress, learning_rate
from fairsynth.demo.pretrain.unet import CAPTION_DROPOUT
from fairsynth.demo.pretrain.vae import encode_corpus

LAYERS, HEADS, HEAD_WIDTH = 5, 3, 32
# Fewer than the text tower reads: every token of a caption costs as much as a pixel of the latents.
CONTEXT = 24
# Wider than both text towers, so that the rest is zeros, as in Stable Diffusion 3.
TEXT_WIDTH = 256
POSITIONS = 16
SHIFT = 2.0
TAUGHT = 0.85
# Learning rates: Muon's for the blocks' matrices, AdamW's for all other weights.
PEAKS = 0.05, 4e-3
# Without the third text encoder the pipeline appends zeros, 256 by default, and their number is the caller's choice.
# So every eighth step has zeros, these numbers of them in turn, and a quarter of the batch, since they cost time.
ZEROS = (77, 77, 77, 256)


def text_towers(clip: CLIPModel) -> list[CLIPTextModelWithProjection]:
    """The CLIP's text tower with its projection, whole and without its last layer: two that nobody can mix up."""
    return [_text_tower(clip, left_out) for left_out in (0, 1)]


def _text_tower(clip: CLIPModel, left_out: int) -> CLIPTextModelWithProjection:
    config = copy.deepcopy(clip.config.text_config)
    config.num_hidden_layers -= left_out
    tower = CLIPTextModelWithProjection(config)
    weights = clip.state_dict()
    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})
    return tower.eval()


def build_transformer(pooled_width: int) -> SD3Transformer2DModel:
    """A small transformer with random weights whose blocks do nothing yet, which learns faster (arXiv:2212.09748, 3.2)."""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=LAYERS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=HEADS * HEAD_WIDTH,
        pooled_projection_dim=pooled_width,
        pos_embed_max_size=POSITIONS,
        qk_norm="rms_norm",
    )
    first = [layer for block in transformer.transformer_blocks for layer in (block.norm1, block.norm1_context)]
    for linear in (*(norm.linear for norm in (*first, transformer.norm_out)), transformer.proj_out):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    transformer.pos_embed.pos_embed.copy_(positions(POSITIONS, HEADS * HEAD_WIDTH))
    return transformer


def positions(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of row and column, float32 (1, side * side, width), with waves of 2.5 to 31 latents.

    Those of diffusers are made for sides of 64 and more: between neighbours of so small a grid they hardly differ.
    """
    angles = torch.arange(side)[:, None] * 2.5 * 0.08 ** torch.linspace(0, 1, width // 4)
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(1, side * side, width)


def assemble(vae: AutoencoderKL, clip: CLIPModel, tokenizer_folder: Path) -> StableDiffusion3Pipeline:
    """The parts as a StableDiffusion3Pipeline without the third text encoder; the transformer is not trained yet."""
    towers = text_towers(clip)
    tokenizers = [CLIPTokenizer.from_pretrained(tokenizer_folder, model_max_length=CONTEXT) for _ in towers]
    return StableDiffusion3Pipeline(
        transformer=build_transformer(sum(tower.config.projection_dim for tower in towers)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=towers[0],
        tokenizer=tokenizers[0],
        text_encoder_2=towers[1],
        tokenizer_2=tokenizers[1],
        text_encoder_3=None,
        tokenizer_3=None,
    )


class CaptionTable:
    """What the pipeline's text encoders make of captions, each computed once."""

    def __init__(self, pipeline: StableDiffusion3Pipeline) -> None:
        self.pipeline = pipeline
        self.known: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str], zeros: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, CONTEXT + zeros, TEXT_WIDTH), the last ``zeros`` of them zero, and pooled embeddings (B, width)."""
        for caption in set(captions) - self.known.keys():
            tokens, _, pooled, _ = self.pipeline.encode_prompt(
                caption, None, None, do_classifier_free_guidance=False, max_sequence_length=0
            )
            self.known[caption] = tokens[0], pooled[0]
        tokens, pooled = (torch.stack(part) for part in zip(*(self.known[c] for c in captions), strict=True))
        return torch.nn.functional.pad(tokens, (0, 0, 0, zeros)), pooled


def levels(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Shares of noise in (0, 1), float32 (count,): logit-normal, shifted as the scheduler's are (arXiv:2403.03206)."""
    return torch.sigmoid(torch.randn(count, generator=generator) + math.log(shift))


def _latents(vae: AutoencoderKL, corpus: Corpus, cache: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and deviation as the transformer sees them; the corpus is encoded once, which takes minutes."""
    if not cache.exists():
        mean, std = encode_corpus(vae, corpus)
        save_file({"mean": mean.contiguous(), "std": std.contiguous()}, cache.with_suffix(".partial"))
        cache.with_suffix(".partial").replace(cache)
    mean, std = (load_file(cache)[name] for name in ("mean", "std"))
    shift, scale = round(float(mean.mean()), 5), round(float(1 / mean.std()), 5)
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    return (mean - shift) * scale, std * scale


def train_flow(
    corpus: Corpus,
    pipeline: StableDiffusion3Pipeline,
    base: StableDiffusionPipeline,
    folder: Path,
    steps: int,
    seed: int,
    batch: int = 64,
) -> None:
    """Train the pipeline's transformer in place by flow matching on cached latents: noise minus latents is the target.

    ``base``, the other base model on the same latents, is the teacher below a share of noise of TAUGHT. Sets the
    autoencoder's shift and scaling factor from the latents.
    """
    transformer, table = pipeline.transformer, CaptionTable(pipeline)
    print(f"flow: {sum(p.numel() for p in transformer.parameters()) / 1e6:.2f} M parameters", flush=True)
    mean, std = _latents(pipeline.vae, corpus, folder / f"flow-latents-{len(corpus)}-{seed}.safetensors")
    teacher = Teacher(base, pipeline.vae)
    hidden = [weight for weight in transformer.transformer_blocks.parameters() if weight.ndim == 2]
    optimizer = MuonAndAdamW(transformer, hidden, *PEAKS)
    average, progress = Average(transformer), Progress(folder / "flow-state.safetensors", "flow", steps)
    first = progress.resume(transformer, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed + 5)):
        if step < first:
            continue
        optimizer.set_rate(learning_rate(step, steps, 1.0))
        zeros = ZEROS[step // 8 % len(ZEROS)] if step % 8 == 7 else 0
        index = index[: batch // 4] if zeros else index
        rng, generator = np.random.default_rng((seed, step, 5)), torch.Generator().manual_seed(step)
        captions = [c if rng.random() >= CAPTION_DROPOUT else "" for c in corpus.captions(index, rng)]
        latents = mean[index] + std[index] * torch.randn(mean[index].shape, generator=generator)
        noise, share = torch.randn(latents.shape, generator=generator), levels(len(index), SHIFT, generator)
        noisy = latents.lerp(noise, share[:, None, None, None])
        taught = (share < TAUGHT)[:, None, None, None]
        target = torch.where(taught, teacher(noisy, share, captions), noise - latents)
        tokens, pooled = table(captions, zeros)
        loss = (transformer(noisy, tokens, pooled, 1000 * share).sample - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step()
        average.update(transformer, step)
        if progress.due(step, loss.item()):
            progress.save(step, transformer, average, optimizer)
    transformer.load_state_dict(average.weights)
    transformer.eval()


def save(pipeline: StableDiffusion3Pipeline, folder: Path) -> None:
    """Write the pipeline as float16, half the bytes; turns ``pipeline`` itself into that. It loads as float32."""
    pipeline.to(torch.float16).save_pretrained(folder)
    for file in folder.glob("*/config.json"):
        config = json.loads(file.read_text("utf-8"))
        config.pop("_name_or_path", None)  # where the autoencoder lay on this machine
        if "dtype" in config:
            # diffusers' models load as float32 whatever is in the file, those of transformers as is written here.
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")

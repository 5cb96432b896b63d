"""Training of Stable Diffusion XL's adapters: as diffusers' script does it, one at a time; and what images are told with."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from peft.utils import set_peft_model_state_dict
from PIL import Image
from torch import nn

from fairsynth.config import ANY_IMAGE, FinetuneConfig
from fairsynth.data.decode import decode_square
from fairsynth.groups import Group
from fairsynth.models.diffusion import Denoiser, encode_prompts, load_pipeline
from fairsynth.models.families.conditions import joined, stacked
from fairsynth.models.families.sdxl import StableDiffusionXL
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.embed.embedding import EmbedUnit
from fairsynth.stages.finetune.denoising import Batch, Draw, Latents, Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.latents import LatentFiles
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from tests.support.models.tiny_sdxl import SIZE, models_of, pipeline

# Height and width of images before, and what XL is told of each at SIZE pixels, 64.
SIZES = {"a": (64, 64), "b": (90, 60), "c": (40, 100), "d": (128, 200)}
TOLD = {
    "a": [64, 64, 0, 0, 64, 64],
    "b": [90, 60, 16, 0, 64, 64],
    "c": [40, 100, 0, 48, 64, 64],
    "d": [128, 200, 0, 18, 64, 64],
}
IDS, PROMPTS = tuple(SIZES), ("a photo of a low number", "a photo of a flower", "stone")
# More than the usual layers, so that sizes reach an adapter's gradient in every way.
TARGETS = (*StableDiffusionXL.targets, "ff.net.0.proj", "conv1", "time_emb_proj", "add_embedding.linear_1")
RANK, ALPHA, N, S = 2, 3, 3, 2
CONFIG = FinetuneConfig(
    rank=RANK, alpha=ALPHA, target_modules=TARGETS, batch_size=S, prior_weight=0, validation_share=0, snr_ceiling=None
)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as files, for both kinds of prediction that there are of the model."""
    path = tmp_path_factory.mktemp(request.param)
    pipeline(request.param).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> StableDiffusionXLPipeline:
    """The pipeline as we load it."""
    return load_pipeline(models_of(folder))


def latents(seed: int) -> Latents:
    """Of the images that there are."""
    rng, shape = np.random.default_rng(seed), (len(SIZES), 4, SIZE // 8, SIZE // 8)
    mean, std = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    facts = StableDiffusionXL().image_facts(np.array([*SIZES.values()]), SIZE)
    return Latents(mean, np.abs(std) * np.float32(0.1), None, facts)


def with_peft(unet: nn.Module) -> nn.Module:
    """A copy of the network with an adapter by peft."""
    unet = copy.deepcopy(unet)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS)), "alone")
    # peft makes float32 weights, whatever the network's are.
    return nn.Module.to(unet, torch.float64)


def by_the_script(
    unet: nn.Module,
    scheduler: DDPMScheduler,
    state: Mapping[str, torch.Tensor],
    draw: Draw,
    told: tuple[torch.Tensor, torch.Tensor],
    ceiling: float | None,
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one adapter by peft and torch alone: diffusers' train_dreambooth_lora_sdxl.py."""
    unet.zero_grad()
    left = set_peft_model_state_dict(unet, dict(state), adapter_name="alone")
    assert not left.unexpected_keys
    clean, noise, times = draw.clean.double(), draw.noise.double(), draw.levels
    text, pooled = (value.double().expand(S, *value.shape[1:]) for value in told)
    added = {"text_embeds": pooled, "time_ids": draw.facts["time_ids"].double()}
    found = unet(
        scheduler.add_noise(clean, noise, times), times, encoder_hidden_states=text, added_cond_kwargs=added
    ).sample
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, times) if velocity else noise
    errors = (found - target).square().mean(dim=(1, 2, 3))
    if ceiling is not None:
        snr = compute_snr(scheduler, times).double()
        errors = errors * snr.clamp(max=ceiling) / (snr + 1 if velocity else snr)
    loss = errors.mean()
    loss.backward()
    named = {name.replace(".alone", ""): p.grad.clone() for name, p in unet.named_parameters() if p.requires_grad}
    return loss.item(), named


# Weights are worked out in float32, the script's too: its numbers and ours differ in the last bits.
@pytest.mark.parametrize(("ceiling", "tolerance"), [(None, 1e-8), (5.0, 1e-6)], ids=["uniform", "min-SNR"])
def test_stacked_adapters_have_the_scripts_loss_and_gradients(
    folder: Path, loaded: StableDiffusionXLPipeline, ceiling: float | None, tolerance: float
) -> None:
    config = CONFIG.model_copy(update={"snr_ceiling": ceiling})
    unet = nn.Module.to(copy.deepcopy(loaded.unet), torch.float64)
    alone, family = with_peft(unet), StableDiffusionXL()
    noise = family.noise(str(folder), None)
    draws = [Sampler(latents(i), i, config, noise)(5) for i in range(N)]
    # Each text alone: in a batch its float32 encoding has other last bits.
    texts = [joined([encode_prompts(loaded, [text]) for text in (prompt, "")]) for prompt in PROMPTS]
    trainer = StackedTrainer(Denoiser(unet, noise, family), config, {}, lambda job: latents(0))
    stack = StackedAdapters(unet, RANK, ALPHA, TARGETS)
    weights = torch.randn(N, stack.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 0.1
    losses, _, gradients = trainer.step_gradient(stack, weights, draws, stacked(texts))
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    for place, draw in enumerate(draws):
        told = script_texts(loaded, PROMPTS[place])
        loss, expected = by_the_script(alone, scheduler, stack.state(weights[place]), draw, told, ceiling)
        assert abs(losses[place].item() - loss) <= tolerance * loss and loss > 0.1
        found = stack.state(gradients[place])
        assert found.keys() == expected.keys()
        largest = max(float(value.abs().max()) for value in expected.values())
        assert max(float((found[name] - expected[name]).abs().max()) for name in expected) <= tolerance * largest


def script_texts(loaded: StableDiffusionXLPipeline, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt's states and projection, by transformers alone."""
    states = []
    for text, encoder in ((loaded.tokenizer, loaded.text_encoder), (loaded.tokenizer_2, loaded.text_encoder_2)):
        ids = text(prompt, padding="max_length", max_length=text.model_max_length, return_tensors="pt").input_ids
        said = encoder(ids, output_hidden_states=True)
        states.append(said.hidden_states[-2])
    return torch.cat(states, -1), said.text_embeds


def embedded(models: Any, folder: Path) -> Path:
    """What embed leaves of images of these sizes."""
    decoded: dict[str, Any] = {
        "name": "images-0",
        "bad": [],
        "good": [{"image_id": i, "path": f"{i}.png"} for i in IDS],
    }
    squares = []
    for height, width in SIZES.values():
        content = io.BytesIO()
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(content, "PNG")
        squares.append(decode_square(content.getvalue(), SIZE, ANY_IMAGE))
    decoded["pixels"] = np.stack([pixels for pixels, _ in squares])
    decoded["sizes"] = np.array([before for _, before in squares])
    file = folder / "embeddings.parquet"
    pq.write_table(EmbedUnit(models)(decoded)["embeddings"], file)
    return file


class Noted:
    """In the network's place: keeps what it is told."""

    def __call__(self, sample: torch.Tensor, times: torch.Tensor, **told: Any) -> Sequence[torch.Tensor]:
        self.told = told
        return (sample,)


@pytest.mark.parametrize("folder", ["epsilon"], indirect=True)
def test_the_sizes_of_an_image_reach_the_network_with_it(folder: Path, tmp_path: Path) -> None:
    family, models = StableDiffusionXL(), models_of(folder)
    prior_facts = family.image_facts(np.array([[SIZE, SIZE]]), SIZE)
    files = LatentFiles([embedded(models, tmp_path)], {}, prior_facts)
    job = AdapterJob(Group("low", "flower"), 0, IDS[::-1], "a low", "a number", 0, 1, 1e-3)
    read = files(job)
    assert read.facts["time_ids"].tolist() == [TOLD[i] for i in job.image_ids]
    # Each latent is its image's number; in two steps each comes once. Class images are made whole.
    numbers = np.zeros_like(read.mean) + np.arange(4, dtype=np.float32)[:, None, None, None]
    known = Latents(numbers, np.zeros_like(read.std), np.full_like(read.mean, -1), read.facts, read.prior_facts)
    config = CONFIG.model_copy(update={"prior": "images", "prior_weight": 1.0})
    noise, noted = family.noise(str(folder), None), Noted()
    draws = [Sampler(known, 0, config, noise)(step) for step in (0, 1)]
    texts = {"text": torch.zeros(2, 2, 5, 3), "pooled": torch.zeros(2, 2, 4)}
    batch = Batch(noise, config, draws, texts, S, torch.bfloat16)
    family.predict(noted, batch.noisy, batch.times, batch.conditions)
    images = torch.cat([draw.clean for draw in draws])[:, 0, 0, 0].int().tolist()
    expected = [TOLD["a"] if image == -1 else TOLD[job.image_ids[image]] for image in images]
    assert noted.told["added_cond_kwargs"]["time_ids"].tolist() == expected
    assert {*images} == {-1, 0, 1, 2, 3}

"""Quality gates of the shipped weights."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from fairsynth.config.load import load_config
from fairsynth.demo import dataset
from fairsynth.demo.drawing import DIGIT_WORDS, TEXTURE_WORDS
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.sources import demo_folder
from tests.support.models.plain_images import generate

MODELS = load_config(preset="demo").models
WEIGHTS = demo_folder("clip").parent


def _tensor(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_the_weights_are_small_safetensors_with_the_recorded_hashes() -> None:
    recorded = json.loads((WEIGHTS / "weights.json").read_text())["files"]
    files = {
        p.relative_to(WEIGHTS).as_posix(): p for p in WEIGHTS.rglob("*") if p.is_file() and p.name != "weights.json"
    }
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == recorded
    assert {path.suffix for path in files.values()} <= {".safetensors", ".json"}
    assert sum(path.stat().st_size for path in files.values()) <= 26 * 2**20


@pytest.mark.slow
def test_the_autoencoder_reconstructs_demo_images_it_never_saw() -> None:
    from fairsynth.demo.pretrain.vae import psnr

    images = dataset.build()
    vae = load_pipeline(MODELS).vae
    for attribute in dataset.ATTRIBUTES:
        chosen = [image.pixels for image in images if image.attribute == attribute][:300]
        assert psnr(vae, _tensor(chosen)) >= 24, attribute


@pytest.mark.slow
def test_clip_picks_the_right_digit_word_for_held_out_drawn_images() -> None:
    from fairsynth.demo.pretrain.corpus import draw_corpus

    drawn = draw_corpus(1000, seed=77_777, blank=0)
    encoder = ClipEncoder(MODELS)
    texts = encoder.texts([f"a photo of the digit {word}" for word in DIGIT_WORDS])
    picked = (encoder.images(drawn.pixels) @ texts.T).argmax(1)
    assert (picked == drawn.digits).mean() >= 0.95


@pytest.mark.slow
def test_vanilla_images_show_the_digit_they_were_asked_for() -> None:
    from transformers import ResNetForImageClassification

    from fairsynth.demo.pretrain.judge import judged_digits

    digits = np.arange(200) % 10
    prompts = [f"a photo of the digit {DIGIT_WORDS[d]} on a {TEXTURE_WORDS[i // 100]}" for i, d in enumerate(digits)]
    pixels = generate(load_pipeline(MODELS), prompts, [""] * 200, list(range(200)), 32, 20, 3.0)
    judge = ResNetForImageClassification.from_pretrained(demo_folder("judge")).eval()
    assert (judged_digits(judge, _tensor(list(pixels))) == digits).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("zeros", [0, 77])
def test_the_flow_base_draws_the_label_and_the_background_it_was_asked_for(zeros: int) -> None:
    """``zeros``: those that stand for the third text encoder; how many there are is the caller's choice."""
    from diffusers import StableDiffusion3Pipeline
    from transformers import ResNetForImageClassification

    from fairsynth.demo.pretrain.judge import judged_digits

    pipeline = StableDiffusion3Pipeline.from_pretrained(demo_folder("flow"), text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    groups = [(label, ground) for label in ("low", "high") for ground in dataset.ATTRIBUTES] * 40
    images = pipeline(
        [f"a photo of a {label} number on a {ground}" for label, ground in groups],
        height=32,
        width=32,
        num_inference_steps=12,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(i) for i in range(len(groups))],
        max_sequence_length=zeros,
        output_type="np",
    ).images
    pixels = (images * 255).round().astype(np.uint8)
    judge = ResNetForImageClassification.from_pretrained(demo_folder("judge")).eval()
    seen = np.where(judged_digits(judge, _tensor(list(pixels))) < 5, "low", "high")
    encoder = ClipEncoder(MODELS)
    texts = encoder.texts([f"a photo of a low number on a {ground}" for ground in dataset.ATTRIBUTES])
    grounds = np.array(dataset.ATTRIBUTES)[(encoder.images(pixels) @ texts.T).argmax(1)]
    right = (seen == [label for label, _ in groups]) & (grounds == [ground for _, ground in groups])
    assert right.mean() >= 0.90


def test_the_judge_is_right_on_drawn_images_it_never_saw() -> None:
    from transformers import ResNetForImageClassification

    from fairsynth.demo.pretrain.corpus import draw_corpus
    from fairsynth.demo.pretrain.judge import accuracy

    judge = ResNetForImageClassification.from_pretrained(demo_folder("judge")).eval()
    assert accuracy(judge, draw_corpus(1000, seed=77_778)) >= 0.95


@pytest.mark.parametrize("word", ["building", "flower"])
def test_clip_knows_the_backgrounds(word: str) -> None:
    from fairsynth.demo.drawing import draw

    encoder = ClipEncoder(MODELS)
    pixels = np.stack([draw(np.random.default_rng((9, i)), i % 10, word).pixels for i in range(100)])
    texts = encoder.texts([f"a photo of a low number on a {w}" for w in ("building", "flower")])
    assert ((encoder.images(pixels) @ texts.T).argmax(1) == ("building", "flower").index(word)).mean() >= 0.95

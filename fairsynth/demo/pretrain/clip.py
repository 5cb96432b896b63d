"""Step 2: the tiny CLIP and its tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from fairsynth.demo.drawing import DIGIT_WORDS, TEXTURE_WORDS, label_word
from fairsynth.demo.pretrain.corpus import BLANK, Corpus
from fairsynth.demo.pretrain.training import Average, Progress, learning_rate

RARE_TOKENS = (
    "sks",
    "ohwx",
    "zwx",
    "xjy",
    "qvb",
    "wzk",
    "vqx",
    "jxk",
    "kzq",
    "pqz",
    "bxv",
    "zqj",
    "fjk",
    "gvx",
    "hqz",
    "xkw",
)
CONTEXT = 32
IMAGE_MEAN, IMAGE_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DIGIT_PROMPTS = [f"a photo of the digit {word}" for word in DIGIT_WORDS]
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows the demo's words whole and spells every other text in bytes."""
    words = (
        *["a", "an", "the", "photo", "of", "number", "digit", "on", "in", "with", "and"],
        "low",
        "high",
        *DIGIT_WORDS,
        *TEXTURE_WORDS,
        *RARE_TOKENS,
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator([" ".join(words)], trainer)
    import json

    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), _START, _END]
    vocabulary = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A small CLIPModel with random weights; its text tower also conditions the UNet."""
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 4,
        "projection_dim": 64,
    }
    text = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "vocab_size": len(tokenizer),
        "projection_dim": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def build_image_processor() -> CLIPImageProcessorPil:
    """32 x 32 pixels, scaled to [-1, 1]."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids, int64 (B, longest of the batch), padded and cut.

    The text tower is causal and pools at the end token, so padding changes nothing before it.
    """
    return tokenizer(captions, padding=True, max_length=CONTEXT, truncation=True, return_tensors="pt").input_ids


def true_pairs(corpus: Corpus, index: np.ndarray, captions: list[str]) -> torch.Tensor:
    """Which caption is true of which image: bool (images, captions)."""
    digit_words = np.array([*DIGIT_WORDS, ""])[corpus.digits[index]]
    labels = np.array([*(label_word(d) for d in range(10)), ""])[corpus.digits[index]]
    textures = np.array(TEXTURE_WORDS)[corpus.textures[index]]
    blank = corpus.digits[index] == BLANK
    columns = []
    for caption in captions:
        words = set(caption.split())
        fits = np.ones(len(index), bool)
        for present, known in ((digit_words, DIGIT_WORDS), (labels, ("low", "high")), (textures, TEXTURE_WORDS)):
            named = words.intersection(known)
            if named:
                fits &= present == named.pop()
        columns.append(fits & (blank == (not words & {"digit", "number"})))
    return torch.from_numpy(np.stack(columns, 1))


def contrastive_loss(scores: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Symmetric CLIP loss in which every true pair of the batch counts as a positive."""
    images = -(scores.log_softmax(1).masked_fill(~fits, -torch.inf)).logsumexp(1).mean()
    texts = -(scores.log_softmax(0).masked_fill(~fits, -torch.inf)).logsumexp(0).mean()
    return (images + texts) / 2


def train_clip(
    corpus: Corpus, folder: Path, steps: int, seed: int, batch: int = 128, peak: float = 1e-3
) -> tuple[CLIPModel, CLIPTokenizer]:
    """Train both towers on drawn images and random true captions; returns averaged weights and tokenizer."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    clip = build_clip(tokenizer)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.02)
    average, progress = Average(clip), Progress(folder / "clip-state.safetensors", "clip", steps)
    first = progress.resume(clip, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed + 1)):
        if step < first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        rng = np.random.default_rng((seed, step, 2))
        captions = corpus.captions(index, rng)
        images = corpus.images(index)
        output = clip(input_ids=tokenize(tokenizer, captions), pixel_values=images)
        loss = contrastive_loss(output.logits_per_image, true_pairs(corpus, index, captions))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, 4.6)
        average.update(clip, step)
        if progress.due(step, loss.item()):
            progress.save(step, clip, average, optimizer)
    clip.load_state_dict(average.weights)
    return clip.eval(), tokenizer


def deepen(clip: CLIPModel, layers: int) -> CLIPModel:
    """The same CLIP with more layers in its vision tower; the new ones start as the identity."""
    config = copy.deepcopy(clip.config)
    config.vision_config.num_hidden_layers += layers
    deeper = CLIPModel(config)
    deeper.load_state_dict(clip.state_dict(), strict=False)
    for layer in deeper.vision_model.encoder.layers[-layers:]:
        for last in (layer.self_attn.out_proj, layer.mlp.fc2):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    return deeper


def train_vision(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    corpus: Corpus,
    folder: Path,
    steps: int,
    seed: int,
    batch: int = 128,
    peak: float = 6e-4,
) -> CLIPModel:
    """Go on with the vision tower alone on a fresh corpus; the text tower, which the UNet knows, stays as it is."""
    torch.manual_seed(seed)
    clip = deepen(clip, 2)
    clip.requires_grad_(False)
    for module in (clip.vision_model, clip.visual_projection):
        module.requires_grad_(True)
    known: dict[str, torch.Tensor] = {}
    digit_texts = _unit(clip.get_text_features(input_ids=tokenize(tokenizer, DIGIT_PROMPTS)).pooler_output).detach()
    trained = [p for p in clip.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    average, progress = Average(clip), Progress(folder / "vision-state.safetensors", "vision", steps)
    first = progress.resume(clip, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed + 4)):
        if step < first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        captions = corpus.captions(index, np.random.default_rng((seed, step, 4)))
        for caption in set(captions) - known.keys():
            known[caption] = _unit(clip.get_text_features(input_ids=tokenize(tokenizer, [caption])).pooler_output)[
                0
            ].detach()
        images = _unit(clip.get_image_features(pixel_values=corpus.images(index)).pooler_output)
        scores = clip.logit_scale.exp() * images @ torch.stack([known[c] for c in captions]).T
        loss = contrastive_loss(scores, true_pairs(corpus, index, captions)) + _digit_loss(
            clip, images, digit_texts, corpus.digits[index]
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(clip, step)
        if progress.due(step, loss.item()):
            progress.save(step, clip, average, optimizer)
    clip.load_state_dict(average.weights)
    return clip.eval()


def _digit_loss(clip: CLIPModel, images_ND: torch.Tensor, texts: torch.Tensor, digits_N: np.ndarray) -> torch.Tensor:
    """Cross-entropy over the ten digit prompts, for the images that show a digit: the hardest task."""
    shown = digits_N != BLANK
    logits = clip.logit_scale.exp() * images_ND[torch.from_numpy(shown)] @ texts.T
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(digits_N[shown]))


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=-1)


@torch.no_grad()
def digit_accuracy(clip: CLIPModel, tokenizer: CLIPTokenizer, corpus: Corpus) -> float:
    """Share of images (with a digit) whose digit word the zero-shot CLIP picks."""
    texts = clip.get_text_features(
        input_ids=tokenize(tokenizer, [f"a photo of the digit {w}" for w in DIGIT_WORDS])
    ).pooler_output
    keep = np.flatnonzero(corpus.digits != BLANK)
    texts = torch.nn.functional.normalize(texts, dim=-1)
    hits = 0
    for part in np.array_split(keep, max(1, len(keep) // 256)):
        images = clip.get_image_features(pixel_values=corpus.images(part)).pooler_output
        hits += int(((images @ texts.T).argmax(1).numpy() == corpus.digits[part]).sum())
    return hits / len(keep)

"""Step 5: the digit judge, a small ResNet trained on drawn images alone; it only grades the other models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from fairsynth.demo.pretrain.corpus import BLANK, Corpus
from fairsynth.demo.pretrain.training import Average, Progress, learning_rate


def build_judge() -> ResNetForImageClassification:
    """A basic-block ResNet for 32 x 32 pixels and ten digits."""
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 96], depths=[1, 1, 1], layer_type="basic", num_labels=10)
    )


def train_judge(
    corpus: Corpus, folder: Path, steps: int, seed: int, batch: int = 128, peak: float = 3e-3
) -> ResNetForImageClassification:
    """Train on the corpus' images that show a digit; returns the averaged weights."""
    torch.manual_seed(seed)
    judge = build_judge().train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=peak, weight_decay=1e-2)
    average, progress = Average(judge, 0.995), Progress(folder / "judge-state.safetensors", "judge", steps)
    first = progress.resume(judge, average, optimizer)
    for step, index in enumerate(corpus.batches(batch, steps, seed + 3)):
        if step < first:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        index = index[corpus.digits[index] != BLANK]
        loss = judge(pixel_values=corpus.images(index), labels=torch.from_numpy(corpus.digits[index])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(judge, step)
        if progress.due(step, loss.item()):
            progress.save(step, judge, average, optimizer)
    judge.load_state_dict(average.weights)
    return judge.eval()


@torch.no_grad()
def judged_digits(judge: ResNetForImageClassification, images_N3HW: torch.Tensor) -> np.ndarray:
    """The digit that the judge sees in each image, int64 (N,); images in [-1, 1]."""
    return torch.cat([judge(pixel_values=part).logits.argmax(1) for part in images_N3HW.split(256)]).numpy()


def accuracy(judge: ResNetForImageClassification, corpus: Corpus) -> float:
    """Share of the images with a digit on which the judge is right."""
    keep = np.flatnonzero(corpus.digits != BLANK)
    return float((judged_digits(judge, corpus.images(keep)) == corpus.digits[keep]).mean())

"""Training a ResNet-50 at 224 pixels on one GPU: images/s of fairsynth's classifiers beside plain loops.

``python benchmarks/classify_gpu.py --out RESULT`` writes RESULT.json; ``--smoke`` tries the script on the CPU. Needs
torch, transformers, scikit-learn, pydantic and this checkout. Weights and images are random. The plain loops move the same
uint8 images to the GPU, augment alike and use AdamW: in float32 (torch's defaults, as the public scripts for group
robustness do), and with bfloat16 autocast and channels last.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import card, write_json
from transformers import ResNetConfig, ResNetModel

from fairsynth.classify import images as batches
from fairsynth.classify.images import Data, Images
from fairsynth.classify.training import Training
from fairsynth.config import ClassifyConfig
from fairsynth.models.device import pick_device

SETTING = {
    "learning_rate": 1e-4, "weight_decay": 1e-3, "step_size": 0.01, "adjustment": 0.0, "beta": 0.5, "temperature": 0.1,
    "head_learning_rate": 1e-3, "head_weight_decay": 1.0,
}  # fmt: skip


def some(n: int, size: int, seed: int) -> Images:
    """Random images of four groups."""
    groups = np.arange(n) % 4
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)
    return Images(pixels, groups // 2, groups)


def ours(method: str, data: Data, config: ClassifyConfig, epochs: int) -> list[float]:
    """Seconds of each epoch after the first, the judging of a few validation images included."""
    run, seconds, began = Training(method, SETTING | {"epochs": epochs}, data, config, 0), [], time.perf_counter()
    for _ in islice(run.epochs(), epochs):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return seconds[1:]


def plain(half: bool, data: Data, config: ClassifyConfig, epochs: int) -> list[float]:
    """The same by the shortest loop."""
    device = pick_device()
    model = ResNetModel.from_pretrained(config.backbone, use_safetensors=True).to(device).train()
    head = torch.nn.Linear(model.config.hidden_sizes[-1], data.n_labels).to(device)
    if half:
        model.to(memory_format=torch.channels_last)
    parameters, rng = [*model.parameters(), *head.parameters()], torch.Generator().manual_seed(0)
    optimizer, images, seconds = torch.optim.AdamW(parameters, lr=1e-4), data.train, []
    for _ in range(epochs):
        began = time.perf_counter()
        for index in batches.cut(torch.randperm(len(images), generator=rng).numpy(), config.batch_size):
            pixels = batches.to_tensor(images.pixels[index], device)
            pixels = batches.augmented(pixels, config.flip, rng, len(index), slice(None))
            with torch.autocast(device, torch.bfloat16, enabled=half):
                logits = head(model(batches.normalised(pixels)).pooler_output.flatten(1))
            loss = torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(images.labels[index]).to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where to write, without a suffix")
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--epochs", type=int, default=4, help="the first warms up")
    parser.add_argument("--smoke", action="store_true")
    chosen = parser.parse_args()
    size, batch = (32, 8) if chosen.smoke else (224, 128)
    if chosen.smoke:
        chosen.images, chosen.epochs = 32, 2
    with tempfile.TemporaryDirectory() as folder:
        ResNetModel(ResNetConfig()).save_pretrained(folder)
        config = ClassifyConfig(backbone=folder, image_size=size, batch_size=batch)
        data = Data(some(chosen.images, size, 0), some(8, size, 1), some(chosen.images, size, 2), 2, 4)
        cells: dict[str, Callable[[], list[float]]] = {
            "fairsynth, ERM": lambda: ours("erm", data, config, chosen.epochs),
            "fairsynth, Group-DRO": lambda: ours("group-dro", data, config, chosen.epochs),
            "fairsynth, stage 1 (CE and SupCon)": lambda: ours("fairsynth", data, config, chosen.epochs),
            "plain loop, bfloat16, channels last": lambda: plain(True, data, config, chosen.epochs),
            "plain loop, float32": lambda: plain(False, data, config, chosen.epochs),
        }
        rows: list[dict[str, Any]] = []
        for name, measure in cells.items():
            seconds = measure()
            rows.append({"how": name, "images_per_s": chosen.images / median(seconds), "seconds": seconds})
            print(rows[-1], flush=True)
    facts = card("cpu" if chosen.smoke else "cuda")
    content = {"machine": facts, "images": chosen.images, "size": size, "batch": batch, "rows": rows}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out.with_suffix(".json"), content)


if __name__ == "__main__":
    main()

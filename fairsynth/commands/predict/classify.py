"""Classifies images of one batch with a classifier that a run left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import BadImage
from fairsynth.data.storage import Storage

PREDICTED = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("reason", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
# Whoever asks wants an answer for a plain wall, too.
RULES = ImageRules(constant="keep", min_side=1, max_aspect=10**9)


@dataclass(frozen=True)
class Loaded:
    """A classifier in this process: its labels in the order of its outputs, and the side of its images in pixels."""

    model: Any
    labels: tuple[str, ...]
    size: int


@cache
def load(folder: Path) -> Loaded:
    """The classifier of a folder; once in a process, however many batches it gets."""
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    from fairsynth.models.device import pick_device

    logging.disable_progress_bar()
    model = AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True).eval().to(pick_device())
    names = model.config.id2label
    crop = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))["crop_size"]
    return Loaded(model, tuple(names[place] for place in range(len(names))), int(crop["height"]))


class PredictImages:
    """Rows (path, location) in, a table ``PREDICTED`` out."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.reader, self.folder = ImageReader(storage), folder

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        loaded = load(self.folder)
        pixels: dict[str, NDArray[np.uint8]] = {}
        reasons: dict[str, str] = {}
        for row in task["rows"]:
            try:
                content = self.reader.read(row["path"], row["location"]).content
                pixels[row["path"]] = decode(content, loaded.size, RULES)
            except BadImage as problem:
                reasons[row["path"]] = f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
        shares = probabilities_of(loaded.model, np.stack([*pixels.values()])) if pixels else ()
        found = {path: _seen(path, loaded.labels, one) for path, one in zip(pixels, shares, strict=True)}
        none = {"label": "", "probability": None, "probabilities": [None] * len(loaded.labels)}
        found |= {path: {"path": path, "reason": reason, **none} for path, reason in reasons.items()}
        return {"predicted": pa.Table.from_pylist([found[row["path"]] for row in task["rows"]], schema=PREDICTED)}


def _seen(path: str, labels: Sequence[str], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    best = int(probabilities.argmax())
    return {
        "path": path,
        "label": labels[best],
        "probability": float(probabilities[best]),
        "reason": "",
        "probabilities": probabilities.tolist(),
    }


def probabilities_of(model: Any, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (N, labels) of decoded images."""
    import torch

    from fairsynth.classify.images import normalised, to_tensor

    with torch.inference_mode():
        logits = model(pixel_values=normalised(to_tensor(pixels_NHW3, str(model.device)))).logits
        return logits.float().softmax(1).cpu().numpy()  # type: ignore[no-any-return]

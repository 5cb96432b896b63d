"""Classifies images of one batch with a classifier that a run left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
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
_RULES = ImageRules(constant="keep", min_side=1, max_aspect=10**9)


def labels_of(folder: Path) -> list[str]:
    """The classifier's labels in the order of its outputs."""
    names = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]
    return [names[str(place)] for place in range(len(names))]


class PredictImages:
    """Rows (path, location) in, a table ``PREDICTED`` out; the model is loaded where it is first used."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage, self.folder = storage, folder

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "folder": self.folder}

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging

        from fairsynth.models.device import pick_device

        logging.disable_progress_bar()
        model = AutoModelForImageClassification.from_pretrained(self.folder, use_safetensors=True)
        return model.eval().to(pick_device())

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        reader, labels = ImageReader(self.storage), labels_of(self.folder)
        size = int(json.loads((self.folder / "preprocessor_config.json").read_text("utf-8"))["crop_size"]["height"])
        pixels: dict[str, NDArray[np.uint8]] = {}
        reasons: dict[str, str] = {}
        for row in task["rows"]:
            try:
                pixels[row["path"]] = decode(reader.read(row["path"], row["location"]).content, size, _RULES)
            except BadImage as problem:
                reasons[row["path"]] = f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
        found = dict(zip(pixels, self._probabilities(np.stack([*pixels.values()])), strict=True)) if pixels else {}
        rows = []
        for row in task["rows"]:
            shares = found.get(row["path"])
            best = int(shares.argmax()) if shares is not None else None
            rows.append({
                "path": row["path"],
                "label": labels[best] if best is not None else "",
                "probability": float(shares[best]) if shares is not None and best is not None else None,
                "reason": reasons.get(row["path"], ""),
                "probabilities": shares.tolist() if shares is not None else [None] * len(labels),
            })  # fmt: skip
        return {"predicted": pa.Table.from_pylist(rows, schema=PREDICTED)}

    def _probabilities(self, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        from fairsynth.classify.images import normalised, to_tensor

        with torch.inference_mode():
            logits = self._model(pixel_values=normalised(to_tensor(pixels_NHW3, str(self._model.device)))).logits
            return logits.float().softmax(1).cpu().numpy()  # type: ignore[no-any-return]

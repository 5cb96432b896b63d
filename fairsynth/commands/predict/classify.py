"""Classifies the images of a batch with a classifier that a run left: CPU work, then the model's."""

from __future__ import annotations

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
from fairsynth.data.unit_rows import PlanRows
from fairsynth.exports.classifier_folder import image_size, labels_of, network
from fairsynth.store.mirror import place_of
from fairsynth.store.view import up_to_date

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


def load(folder: Path) -> Loaded:
    """The classifier of a folder; once in a process, however many batches it gets, unless another takes its place."""
    if place_of(folder) and not (folder / "model.safetensors").exists():  # on another node than that of the command
        up_to_date(folder)
    file = (folder / "model.safetensors").stat()
    return _loaded(folder, (file.st_mtime_ns, file.st_size, file.st_ino))


@cache
def _loaded(folder: Path, version: tuple[int, int, int]) -> Loaded:
    from fairsynth.models.device import pick_device

    return Loaded(network(folder).to(pick_device()), labels_of(folder), image_size(folder))


class DecodeBatch:
    """CPU work: read and decode the images of a unit.

    Returns ``pixels`` uint8 (N, S, S, 3) of those that can be read, ``paths`` of all in their order, ``reasons`` of the
    others by path.
    """

    def __init__(self, storage: Storage, rows: PlanRows, size: int) -> None:
        self.reader, self.rows, self.size = ImageReader(storage), rows, size

    def __call__(self, name: str) -> dict[str, Any]:
        rows, pixels, reasons = self.rows(name)["rows"], [], {}
        for row in rows:
            try:
                content = self.reader.read(row["path"], row["location"]).content
                pixels.append(decode(content, self.size, RULES))
            except BadImage as problem:
                reasons[row["path"]] = f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
        stacked = np.stack(pixels) if pixels else np.zeros((0, self.size, self.size, 3), np.uint8)
        return {"pixels": stacked, "paths": [row["path"] for row in rows], "reasons": reasons}


class ClassifyBatch:
    """Model work: a decoded batch in, a table ``PREDICTED`` with a row for each of its paths out."""

    def __init__(self, folder: Path) -> None:
        self.loaded = load(folder)

    def __call__(self, decoded: Mapping[str, Any]) -> dict[str, pa.Table]:
        labels, reasons = self.loaded.labels, decoded["reasons"]
        shares = iter(probabilities_of(self.loaded.model, decoded["pixels"]) if len(decoded["pixels"]) else ())
        none = {"label": "", "probability": None, "probabilities": [None] * len(labels)}
        rows = [
            {"path": path, "reason": reasons[path], **none} if path in reasons else _seen(path, labels, next(shares))
            for path in decoded["paths"]
        ]
        return {"predicted": pa.Table.from_pylist(rows, schema=PREDICTED)}


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
    """Probabilities (N, labels) of decoded images; fewer of them at once where memory runs out."""
    import torch

    from fairsynth.classify.images import normalised, to_tensor
    from fairsynth.models.memory import Parts

    def shares(pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = model(pixel_values=normalised(to_tensor(pixels_NHW3, str(model.device)))).logits
        return logits.float().softmax(1).cpu().numpy()  # type: ignore[no-any-return]

    parts = Parts("an image in the classifier", "end what else uses it")
    with torch.inference_mode():
        return np.concatenate(parts(len(pixels_NHW3), lambda part: shares(pixels_NHW3[part])))

"""Stage 2, embed: CLIP vectors and VAE posteriors of the training images, a unit at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairsynth.config import ModelsConfig
from fairsynth.data.decode import BadImage, decode, read_file
from fairsynth.vectors import vectors

VERSION = 1
BAD_SCHEMA = pa.schema(
    [("path", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


def unit_rows(rows: Sequence[Mapping[str, Any]], unit_size: int) -> dict[str, list[dict[str, str]]]:
    """Cut rows, ordered by image_id, into named units of ``unit_size`` images."""
    ordered = sorted(
        ({key: row[key] for key in ("image_id", "path", "sha256")} for row in rows), key=lambda r: r["image_id"]
    )
    return {
        f"images-{start // unit_size:06d}": ordered[start : start + unit_size]
        for start in range(0, len(ordered), unit_size)
    }


class DecodeUnit:
    """CPU work: read and decode the images of one unit to one size.

    Returns ``pixels`` uint8 (N, S, S, 3), ``good`` (rows decoded) and ``bad`` (rows with a reason).
    A file whose content is not what ingest saw is set aside as ``input_changed``.
    """

    def __init__(self, root: Path, units: Mapping[str, list[dict[str, str]]], size: int) -> None:
        self.root, self.units, self.size = root, units, size

    def __call__(self, name: str) -> dict[str, Any]:
        pixels, good, bad = [], [], []
        for row in self.units[name]:
            try:
                file = read_file(self.root / row["path"])
                if file.sha256 != row["sha256"]:
                    raise BadImage("input_changed")
                pixels.append(decode(file.content, self.size))
                good.append(row["image_id"])
            except BadImage as problem:
                bad.append({"path": row["path"], "stage": "embed", "reason": problem.reason, "detail": problem.detail})
        stacked = np.stack(pixels) if pixels else np.zeros((0, self.size, self.size, 3), np.uint8)
        return {"pixels": stacked, "good": good, "bad": bad}


class EmbedUnit:
    """Model work: embed one decoded unit; the pixels end here.

    Returns tables ``embeddings`` (image_id, embedding: unit length, mean and std: the posterior,
    flattened) and ``bad``.
    """

    def __init__(self, models: ModelsConfig) -> None:
        from fairsynth.models.diffusion import load_pipeline
        from fairsynth.models.encoder import ClipEncoder

        self.encoder, self.pipeline = ClipEncoder(models), load_pipeline(models)

    def __call__(self, decoded: Mapping[str, Any]) -> dict[str, pa.Table]:
        from fairsynth.models.diffusion import encode_posteriors

        ids, pixels = list(decoded["good"]), decoded["pixels"]
        columns: dict[str, Any] = {"image_id": pa.array(ids, pa.string())}
        if ids:
            mean, std = encode_posteriors(self.pipeline, pixels)
            for name, values in (("embedding", self.encoder.images(pixels)), ("mean", mean), ("std", std)):
                columns[name] = vectors(values.reshape(len(ids), -1))
            columns["latent_shape"] = pa.array([list(mean.shape[1:])] * len(ids), pa.list_(pa.int32()))
        return {"embeddings": pa.table(columns), "bad": pa.Table.from_pylist(list(decoded["bad"]), schema=BAD_SCHEMA)}

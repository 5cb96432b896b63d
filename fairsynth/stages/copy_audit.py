"""Stage 6, audit: the detector of copies put to the test, by a worker that has CLIP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.data.copies import CopyDetector
from fairsynth.groups import Group
from fairsynth.stages.audit import self_test_facts
from fairsynth.stages.memorisation import self_test
from fairsynth.vectors import vectors


@dataclass(frozen=True)
class TestImages:
    """What the detector is tested with: what it is built from, and whole images: K that it knows, H that it does not."""

    __test__ = False  # for pytest: no test
    embeddings_ND: NDArray[np.float32]
    thumbnails_N: NDArray[np.uint8]
    training_KHW3: NDArray[np.uint8]
    held_out_HHW3: NDArray[np.uint8]


class TestDetector:
    """Returns tables ``test`` (one row of JSON: the detector's rates) and ``texts`` (each group's prompt as CLIP sees it)."""

    __test__ = False

    def __init__(self, models: ModelsConfig, images: TestImages, texts: Mapping[Group, str], seed: int) -> None:
        from fairsynth.models.encoder import ClipEncoder

        self.encoder, self.images, self.texts, self.seed = ClipEncoder(models), images, texts, seed

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        groups, images = sorted(self.texts), self.images
        texts_GD = self.encoder.texts([self.texts[group] for group in groups])
        test = None
        if len(images.training_KHW3) and len(images.held_out_HHW3) > 1:
            detector = CopyDetector(images.embeddings_ND, images.thumbnails_N)
            test = self_test(detector, images.training_KHW3, images.held_out_HHW3, self._encode, self.seed)
        columns = {"label": [g.label for g in groups], "attribute": [g.attribute for g in groups]}
        return {
            "test": pa.table({"json": [json.dumps(self_test_facts(test))]}),
            "texts": pa.table({**columns, "embedding": vectors(texts_GD)}),
        }

    def _encode(self, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """In batches: memory stays bounded however large the images are."""
        return np.concatenate([self.encoder.images(pixels_NHW3[i : i + 32]) for i in range(0, len(pixels_NHW3), 32)])

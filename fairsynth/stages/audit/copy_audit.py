"""The search for copies of training images: a worker with CLIP tests the detector, then it is used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.config import ANY_IMAGE, ImageRules, ModelsConfig
from fairsynth.data.copies import CopyDetector, thumbnails
from fairsynth.data.decode import decode
from fairsynth.data.location import ImageReader
from fairsynth.data.samples import spread
from fairsynth.data.storage import Storage
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.stages.audit.figures import self_test_facts
from fairsynth.stages.audit.memorisation import self_test
from fairsynth.stages.embed.output import RealImages
from fairsynth.stages.synthesize.output import ACCEPTED, read_files

# Images of a group that are searched at most, and pairs of an image and its nearest training image that are listed.
COPIES_PER_GROUP, NEAREST = 300, 20


@dataclass(frozen=True)
class TestImages:
    """Input of the detector's test: what it is built from, and readers of whole images: K that it knows, H that not."""

    __test__ = False  # for pytest: no test
    embeddings_ND: NDArray[np.float32]
    thumbnails_N: NDArray[np.uint8]
    training: Callable[[], NDArray[np.uint8]]
    held_out: Callable[[], NDArray[np.uint8]]


class ReadImages:
    """Reads images of the dataset on call, in the calling process: uint8 (N, size, size, 3)."""

    def __init__(self, storage: Storage, places: Sequence[tuple[str, str]], size: int, rules: ImageRules) -> None:
        self.storage, self.places, self.size, self.rules = storage, places, size, rules

    def __call__(self) -> NDArray[np.uint8]:
        reader = ImageReader(self.storage, self.rules.max_bytes)
        images = [decode(reader.read(*place).content, self.size, self.rules) for place in self.places]
        return np.stack(images) if images else np.zeros((0, self.size, self.size, 3), np.uint8)


class TestDetector:
    """Returns tables ``test`` (a row of JSON: the detector's rates) and ``texts`` (CLIP vectors of the prompts)."""

    __test__ = False

    def __init__(self, models: ModelsConfig, images: TestImages, texts: Mapping[Group, str], seed: int) -> None:
        from fairsynth.models.encoder import ClipEncoder

        self.encoder, self.images, self.texts, self.seed = ClipEncoder(models), images, texts, seed

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        groups, images = sorted(self.texts), self.images
        texts_GD = self.encoder.texts([self.texts[group] for group in groups])
        training, held_out, test = images.training(), images.held_out(), None
        if len(training) and len(held_out) > 1:
            detector = CopyDetector(images.embeddings_ND, images.thumbnails_N)
            test = self_test(detector, training, held_out, self._encode, self.seed)
        columns = {"label": [g.label for g in groups], "attribute": [g.attribute for g in groups]}
        return {
            "test": pa.table({"json": [json.dumps(self_test_facts(test))]}),
            "texts": pa.table({**columns, "embedding": vectors(texts_GD)}),
        }

    def _encode(self, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed in batches: memory stays bounded however large the images are."""
        return np.concatenate([self.encoder.images(pixels_NHW3[i : i + 32]) for i in range(0, len(pixels_NHW3), 32)])


def search_copies(
    synthesized: Artifact,
    test: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    training: RealImages,
    size: int,
) -> dict[str, Any]:
    """Copies of training images among the accepted ones, by a detector that has been tested (``test``)."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        if row["verdict"] == ACCEPTED:
            groups.setdefault((row["label"], row["attribute"]), []).append(i)
    places = sorted(i for its in groups.values() for i in spread(its, COPIES_PER_GROUP))
    result = {"self_test": test, "images": len(places), "training": len(training)}
    if "threshold" not in test or not places:
        return result | {"flagged": 0 if "threshold" in test else None, "nearest": []}
    files = read_files(synthesized, [dict(rows[i]) for i in places])
    pixels = np.stack([decode(files[rows[i]["image_id"]], size, ANY_IMAGE) for i in places])
    detector = CopyDetector(training.embeddings_ND, training.thumbnails_N)
    scores, nearest = detector.score(embeddings_ND[places], thumbnails(pixels))
    pairs = [
        {"image_id": rows[places[i]]["image_id"], "training_image": training.ids[nearest[i]], "score": float(scores[i])}
        for i in np.argsort(-scores, kind="stable")[:NEAREST].tolist()
    ]
    return result | {"flagged": int((scores > test["threshold"]).sum()), "nearest": pairs}

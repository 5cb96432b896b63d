"""Makes the images of one unit of the plan, compares them and encodes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from fairsynth.artifacts import Units
from fairsynth.config import ANY_IMAGE, ModelsConfig
from fairsynth.data.copies import CopyDetector, thumbnails, unpacked
from fairsynth.data.decode import decode
from fairsynth.data.near_duplicates import HASH_BYTES, LOOK_BYTES, look, perceptual_hash
from fairsynth.data.vectors import matrix, vectors
from fairsynth.groups import Group
from fairsynth.models.probe import Probe
from fairsynth.models.schedule import Sampling
from fairsynth.stages.synthesize import image_plan
from fairsynth.stages.synthesize.codec import Codec, encode
from fairsynth.store.mirror import here

# Below this spread of every channel an image is blank (a safety checker's black frame, a collapsed adapter).
MIN_SPREAD = 3.0
# Threads that write files: enough to keep up with a GPU that makes ten images in a second.
_WRITERS = 4
SEEN = pa.schema(
    [
        ("sha256", pa.string()),
        ("phash", pa.binary(HASH_BYTES)),
        ("look", pa.binary(LOOK_BYTES)),
        ("constant", pa.bool_()),
        ("text_score", pa.float64()),
        ("centroid_score", pa.float64()),
        ("label_probability", pa.float64()),
        ("attribute_probability", pa.float64()),
        ("zero_shot_label", pa.string()),
        ("zero_shot_attribute", pa.string()),
        ("copy_score", pa.float64()),
        ("copy_of", pa.string()),
    ]
)
"""Columns measured on an image, besides its row in the plan."""


@dataclass(frozen=True)
class FilterReferences:
    """What images are compared with: each group's prompt and mean real embedding, the probe, the training images.

    ``texts``: of all groups, not only of those to make. ``centroids``: unit vectors of groups with real images.
    ``training``: a folder with ``<adapter>.parquet`` for each: ids, embeddings and thumbnails of what it learnt.
    """

    texts: Mapping[Group, str]
    centroids: Mapping[Group, NDArray[np.float32]]
    probe: Probe
    training: Path


class PlannedRows:
    """The rows of a unit by its name, from a plan in which they are contiguous."""

    def __init__(self, plan: Path) -> None:
        text = [field.name for field in image_plan.SCHEMA if field.type == pa.string() and field.name != "image_id"]
        self.table = pq.read_table(here(plan), read_dictionary=text).combine_chunks()
        shaped = "height" in self.table.column_names
        self.schema = image_plan.SHAPED if shaped else image_plan.SCHEMA
        codes = self.table["unit"].combine_chunks().dictionary_encode()
        starts = np.flatnonzero(np.diff(codes.indices.to_numpy(zero_copy_only=False), prepend=-1))
        ends = [*starts[1:].tolist(), len(codes)]
        names = codes.dictionary.take(codes.indices.take(pa.array(starts))).to_pylist()
        self.places = {name: (start, end) for name, start, end in zip(names, starts.tolist(), ends, strict=True)}

    @property
    def texts(self) -> list[str]:
        """All prompts and negative prompts of the plan."""
        columns = (self.table[name].unique().to_pylist() for name in ("prompt", "negative_prompt"))
        return sorted({text for column in columns for text in column})

    def __call__(self, unit: str) -> pa.Table:
        """Raises KeyError for a unit that is not planned."""
        start, end = self.places[unit]
        return self.table.slice(start, end - start).cast(self.schema)


class Written(NamedTuple):
    """An image's file, the pixels that the file holds, and columns of ``SEEN`` that need no model."""

    content: bytes
    pixels_HW3: NDArray[np.uint8]
    facts: dict[str, Any]


class Begun(NamedTuple):
    """A unit whose images are made and whose files are being written."""

    planned: pa.Table
    files: list[Future[Written]]


def _write(images_NHW3: Future[NDArray[np.uint8]], place: int, codec: Codec, size: int) -> Written:
    content = encode(images_NHW3.result()[place], codec, whole=True)
    # The filter sees what the file holds, as with real images: compression is part of it, and the middle square alone.
    pixels = decode(content, size, ANY_IMAGE)
    image = Image.fromarray(pixels)
    facts = {"phash": perceptual_hash(image), "look": look(image), "constant": is_blank(pixels)}
    return Written(content, pixels, facts | {"sha256": hashlib.sha256(content).hexdigest()})


class GenerateUnit:
    """Makes the images of a unit: ``__call__`` takes its name and returns the table ``images``.

    Its columns are the plan's, those of ``SEEN``, the encoded ``file`` and the CLIP ``embedding``. ``begin`` and
    ``finish`` do the same in two parts, so that the next unit can be begun while this one's files are written.
    """

    def __init__(
        self,
        models: ModelsConfig,
        sampling: Sampling,
        plan: Path,
        adapters: Path,
        references: FilterReferences,
        codec: Codec,
        compiling: str = "auto",
        graphs: bool = False,
    ) -> None:
        from fairsynth.models.encoder import ClipEncoder
        from fairsynth.models.image_maker import ImageMaker
        from fairsynth.stages.synthesize.told import known_texts

        self.rows, self.codec, self.references = PlannedRows(plan), codec, references
        texts = self.rows.texts
        known = known_texts(Units(plan.parent / "units"), texts)
        self.make = ImageMaker(models, sampling, adapters, texts, known, compiling, graphs)
        self.encoder = ClipEncoder(models)
        self.groups = sorted(references.texts)
        self.texts_GD = self.encoder.texts([references.texts[group] for group in self.groups])
        self.writers = ThreadPoolExecutor(_WRITERS)
        self.detectors: dict[str, tuple[CopyDetector, list[str]]] = {}

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        return self.finish(self.begin(task))

    def begin(self, task: Mapping[str, Any]) -> Begun:
        """Make a unit's images; threads wait for their pixels and write their files, beside what comes next."""
        planned = self.rows(str(task["name"]))
        # The first task of a unit gets its pixels, and the others wait for that: none can wait for one behind it.
        images = self.writers.submit(self.make.begin(planned.to_pylist()))
        write = partial(_write, images, codec=self.codec, size=self.make.size)
        return Begun(planned, [self.writers.submit(write, place) for place in range(planned.num_rows)])

    def finish(self, begun: Begun) -> dict[str, pa.Table]:
        """Look at the images of a unit that was begun."""
        planned, written = begun.planned, [future.result() for future in begun.files]
        pixels = np.stack([file.pixels_HW3 for file in written])
        embeddings = self.encoder.images(pixels)
        facts = {name: [file.facts[name] for file in written] for name in written[0].facts}
        facts |= self._compared(planned, embeddings) | self._copies(planned, embeddings, pixels)
        table = pa.Table.from_arrays(
            [
                *planned.columns,
                *(pa.array(facts[f.name], f.type) for f in SEEN),
                pa.array([file.content for file in written], pa.binary()),
                vectors(embeddings),
            ],
            [*planned.column_names, *SEEN.names, "file", "embedding"],
        )
        return {"images": table}

    def _compared(self, planned: pa.Table, embeddings_ND: NDArray[np.float32]) -> dict[str, Any]:
        """Similarity to the group's prompt and centroid (the prompt's where there is none), probe, zero-shot CLIP."""
        groups = groups_of(planned)
        similarity_NG = embeddings_ND @ self.texts_GD.T
        text = [similarity_NG[i, self.groups.index(group)] for i, group in enumerate(groups)]
        known = self.references.centroids
        centroid = [
            vector @ known[group] if group in known else text[i]
            for i, (vector, group) in enumerate(zip(embeddings_ND, groups, strict=True))
        ]
        label, attribute = self.references.probe.agreement(embeddings_ND, groups)
        nearest = [self.groups[i] for i in similarity_NG.argmax(1)]
        # Where groups share a prompt (discovered attributes have no word of their own) CLIP cannot tell them apart.
        clip_can_tell = len(set(self.references.texts.values())) == len(self.groups)
        return {
            "text_score": [float(value) for value in text],
            "centroid_score": [float(value) for value in centroid],
            "label_probability": label.astype(float),
            "attribute_probability": attribute.astype(float),
            "zero_shot_label": [group.label for group in nearest],
            "zero_shot_attribute": [group.attribute if clip_can_tell else None for group in nearest],
        }

    def _copies(
        self, planned: pa.Table, embeddings_ND: NDArray[np.float32], pixels_NHW3: NDArray[np.uint8]
    ) -> dict[str, Any]:
        """The image most like each one among those that its adapters learnt; null for the base model's images."""
        scores: list[float | None] = [None] * len(pixels_NHW3)
        sources: list[str | None] = [None] * len(pixels_NHW3)
        small = thumbnails(pixels_NHW3)
        used = list(zip(planned["adapter"].to_pylist(), planned["second_adapter"].to_pylist(), strict=True))
        for name in sorted({name for names in used for name in names if name}):
            detector, ids = self._detector(name)
            rows = [i for i, names in enumerate(used) if name in names]
            values, nearest = detector.score(embeddings_ND[rows], small[rows])
            for row, score, place in zip(rows, values.tolist(), nearest.tolist(), strict=True):
                known = scores[row]
                if known is None or score > known:
                    scores[row], sources[row] = score, ids[place]
        return {"copy_score": scores, "copy_of": sources}

    def _detector(self, adapter: str) -> tuple[CopyDetector, list[str]]:
        if adapter not in self.detectors:
            table = pq.read_table(here(self.references.training / f"{adapter}.parquet"))
            # Units come by adapter: the last few are enough, and each may hold 64 MB.
            if len(self.detectors) >= 8:
                self.detectors.clear()
            detector = CopyDetector(matrix(table, "embedding"), unpacked(table["thumbnail"]))
            self.detectors[adapter] = detector, table["image_id"].to_pylist()
        return self.detectors[adapter]


def groups_of(table: pa.Table) -> list[Group]:
    """The group of every row."""
    return [Group(y, a) for y, a in zip(table["label"].to_pylist(), table["attribute"].to_pylist(), strict=True)]


def is_blank(pixels_HW3: NDArray[np.uint8]) -> bool:
    """True for an image of about one colour, whichever it is."""
    return bool(pixels_HW3.std((0, 1)).max() < MIN_SPREAD)


def centroids(groups_N: Sequence[Group], embeddings_ND: NDArray[np.float32]) -> dict[Group, NDArray[np.float32]]:
    """Mean CLIP vector of each real group, scaled to length 1 (arXiv 2511.08711, CLIP-Centroid)."""
    members: dict[Group, list[int]] = {}
    for index, group in enumerate(groups_N):
        members.setdefault(group, []).append(index)
    means = {group: embeddings_ND[index].mean(0) for group, index in members.items()}
    return {group: (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32) for group, mean in means.items()}

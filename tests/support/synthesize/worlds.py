"""Adapters that have learnt real images, a plan for them, and what the images are compared with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.config import ModelsConfig
from fairsynth.data.copies import THUMBNAIL_BYTES, thumbnails
from fairsynth.data.vectors import vectors
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.probe import fit_probe
from fairsynth.models.schedule import Sampling
from fairsynth.stages.synthesize.codec import Codec
from fairsynth.stages.synthesize.generate import (
    FilterReferences,
    GenerateUnit,
    centroids,
)
from fairsynth.stages.synthesize.image_plan import Source, plan_images
from tests.support.models.making_images import write_adapters

MODELS, SAMPLING = ModelsConfig(diffusion="demo", clip="demo", image_size=32), Sampling(4)
A, B, C = Group("low", "building"), Group("high", "flower"), Group("low", "flower")
SOURCES = {
    A: [
        Source("own", "a", 0, "a photo of a sks low number on a building", 3, "blur", 2.0),
        Source("own", "b", 1, "a photo of a ohwx low number on a building", 1, "", 3.0),
    ],
    B: [Source("same-attribute", "c", 0, "a photo of a high number on a flower", 1, "low", 2.0)],
    C: [
        Source("composed", "a", 0, "a photo of a low number on a flower", 3, "", 2.0, 0.5, "b"),
        Source("prompt", None, 0, "a photo of a low number on a flower", 2, "", 2.0),
    ],
}
NEEDED = {A: 11, B: 3, C: 5}
TEXTS = {group: f"a photo of a {group.label} number on a {group.attribute}" for group in SOURCES}
PNG = Codec("PNG", "RGB", 32)


@cache
def encoder() -> ClipEncoder:
    return ClipEncoder(MODELS)


@cache
def real() -> tuple[list[Group], NDArray[np.uint8], NDArray[np.float32]]:
    """Some of the demo's training images: groups, pixels, embeddings."""
    images = [image for image in dataset.build(severity=0.9) if image.split == "train"][::6]
    pixels = np.stack([image.pixels for image in images])
    return [Group(image.label, image.attribute) for image in images], pixels, encoder().images(pixels)


def plan(folder: Path, unit_size: int) -> Path:
    """The plan's file, for units of this size."""
    path = folder / f"plan-{unit_size}.parquet"
    pq.write_table(plan_images(NEEDED, SOURCES, 0, 0, unit_size), path, row_group_size=5)
    return path


def units(path: Path) -> list[str]:
    """The units' names in order."""
    return list(dict.fromkeys(pq.read_table(path)["unit"].to_pylist()))


def largest(path: Path) -> str:
    """The unit with the most rows."""
    names = pq.read_table(path)["unit"].to_pylist()
    return max(names, key=names.count)


@dataclass
class World:
    """Adapters, what they learnt, and what images are compared with."""

    adapters: Path
    plan: Path
    references: FilterReferences

    def worker(self, codec: Codec = PNG, path: Path | None = None) -> GenerateUnit:
        """An actor's work."""
        return GenerateUnit(MODELS, SAMPLING, path or self.plan, self.adapters, self.references, codec)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Each adapter has learnt a third of the real images; group C has no centroid."""
    folder = tmp_path_factory.mktemp("world")
    adapters = write_adapters(folder / "adapters", ("a", "b", "c"))
    groups, pixels, embeddings = real()
    for i, name in enumerate("abc"):
        learnt(folder, name, pixels[i::3], [f"{name}-{k}" for k in range(len(pixels[i::3]))])
    centres = {group: centre for group, centre in centroids(groups, embeddings).items() if group != C}
    probe = fit_probe(embeddings, groups, [str(i) for i in range(len(groups))])
    return World(adapters, plan(folder, 100), FilterReferences(TEXTS, centres, probe, folder))


def learnt(folder: Path, adapter: str, pixels: NDArray[np.uint8], ids: list[str]) -> None:
    """The file of what an adapter learnt."""
    small = pa.array([image.tobytes() for image in thumbnails(pixels)], pa.binary(THUMBNAIL_BYTES))
    table = pa.table({"image_id": ids, "embedding": vectors(encoder().images(pixels)), "thumbnail": small})
    pq.write_table(table, folder / f"{adapter}.parquet")


@pytest.fixture(scope="module")
def made(world: World) -> pa.Table:
    """All images of the plan."""
    work = world.worker()
    return pa.concat_tables([work({"name": name})["images"] for name in units(world.plan)])


def pixels_of(table: pa.Table) -> NDArray[Any]:
    """The files' pixels, in the rows' order."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in table["file"].to_pylist()])

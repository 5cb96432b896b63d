"""What embed leaves: CLIP vectors and thumbnails of training and validation images, and posteriors of the former."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.config import RunConfig
from fairsynth.data.copies import unpacked
from fairsynth.data.shapes import Shape
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows
from fairsynth.data.vectors import matrix
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, Manifest
from fairsynth.stages.embed.embedding import DecodeUnit, EmbedUnit, plan_rows
from fairsynth.stages.embed.embedding import fact_column as fact_column


def embedding_files(artifact: Artifact) -> list[Path]:
    """The Parquet files that hold embeddings, in order."""
    units = artifact.units()
    names = sorted(units.done())
    units.here(names)
    return with_embeddings(units[name] / "embeddings.parquet" for name in names)


def with_embeddings(files: Iterable[Path]) -> list[Path]:
    """The units' files with embeddings: a file without any usable image lacks the columns, too.

    Raises DataError if no file holds one.
    """
    found = [file for file in files if pq.read_metadata(file).num_rows]
    if not found:
        raise DataError(
            "no image has a usable embedding; 'quarantine.parquet' of the stage embed says why; try --models.dtype float32 or another models.clip"
        )
    return found


def read_embeddings(artifact: Artifact, manifest: Manifest) -> tuple[list[str], list[Group], pa.Table]:
    """Ids, groups and table (image_id, embedding) of the embedded training images that the manifest has."""
    table = pq.read_table(embedding_files(artifact), columns=["image_id", "embedding"])
    groups = _groups(manifest, TRAIN)
    table = _of(table, groups)
    ids = table.column("image_id").to_pylist()
    return ids, [groups[i] for i in ids], table


@dataclass(frozen=True)
class RealImages:
    """Embedded images of a split, in the order of their ids: N of them."""

    ids: list[str]
    groups: list[Group]
    embeddings_ND: NDArray[np.float32]
    thumbnails_N: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Sequence[int]) -> RealImages:
        """Some of them."""
        where = list(places)
        return RealImages(
            [self.ids[i] for i in where],
            [self.groups[i] for i in where],
            self.embeddings_ND[where],
            self.thumbnails_N[where],
        )


def real_images(artifact: Artifact, manifest: Manifest, split: str) -> RealImages:
    """The embedded images of a split that belong to a group."""
    groups = _groups(manifest, split)
    table = pq.read_table(embedding_files(artifact), columns=["image_id", "embedding", "thumbnail"])
    table = _of(table, groups).sort_by("image_id")
    ids = table.column("image_id").to_pylist()
    # A matrix of no rows has no width.
    width = table.schema.field("embedding").type.list_size
    embeddings_ND = matrix(table, "embedding") if ids else np.zeros((0, width), np.float32)
    return RealImages(ids, [groups[i] for i in ids], embeddings_ND, unpacked(table.column("thumbnail")))


def image_shapes(artifact: Artifact) -> dict[str, Shape]:
    """The shape in which the base model sees every training image; empty where all are squares."""
    found = dict[str, Shape]()
    for file in embedding_files(artifact):
        if "height" in pq.read_schema(file).names:
            columns = pq.read_table(file, columns=["image_id", *Shape._fields]).to_pydict()
            found |= zip(columns["image_id"], map(Shape, columns["height"], columns["width"]), strict=True)
    return found


def embedded_groups(artifact: Artifact, manifest: Manifest) -> dict[str, Group]:
    """The group of every embedded training image: copies of others, for one, are not embedded."""
    groups = _groups(manifest, TRAIN)
    ids = pq.read_table(embedding_files(artifact), columns=["image_id"])["image_id"].to_pylist()
    return {image: groups[image] for image in ids if image in groups}


def _groups(manifest: Manifest, split: str) -> dict[str, Group]:
    part = manifest.split(split)
    return dict(zip(part.column("image_id"), part.groups(), strict=True))


def _of(table: pa.Table, groups: dict[str, Group]) -> pa.Table:
    return table.filter(pa.array([i in groups for i in table.column("image_id").to_pylist()], pa.bool_()))


def embedding_of(
    test: Manifest, storage: Storage, plan: PlanRows, config: RunConfig
) -> tuple[pa.Table, DecodeUnit, Callable[[], EmbedUnit]]:
    """How to embed further images as embed does, by CLIP alone: rows of a plan, and the work on its units."""
    decode = DecodeUnit(storage, plan, config.models.image_size, config.data.images)
    work = partial(EmbedUnit, config.models, posteriors=False, batch=config.resources.embed_batch)
    return plan_rows(test.rows()), decode, work

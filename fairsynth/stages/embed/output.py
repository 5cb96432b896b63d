"""What embed found out about real images, by split: ids, groups, CLIP vectors and thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.data.copies import unpacked
from fairsynth.data.vectors import matrix
from fairsynth.groups import Group
from fairsynth.stages.context import Context
from fairsynth.stages.ingest.step import embedding_files


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


def real_images(context: Context, split: str) -> RealImages:
    """The embedded images of a split that belong to a group."""
    manifest = context.manifest.split(split)
    groups = dict(zip(manifest.column("image_id"), manifest.groups(), strict=True))
    files = embedding_files(context.artifacts["embed"])
    table = pq.read_table(files, columns=["image_id", "embedding", "thumbnail"])
    table = table.filter(pa.array([i in groups for i in table.column("image_id").to_pylist()], pa.bool_()))
    table = table.sort_by("image_id")
    ids = table.column("image_id").to_pylist()
    # Of no rows a matrix does not know its width.
    found = (
        matrix(table, "embedding") if ids else np.zeros((0, table.schema.field("embedding").type.list_size), np.float32)
    )
    return RealImages(ids, [groups[i] for i in ids], found, unpacked(table.column("thumbnail")))

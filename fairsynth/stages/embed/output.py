"""What embed leaves: CLIP vectors and thumbnails of training and validation images, and posteriors of the former."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
from fairsynth.groups import Group, grouped
from fairsynth.manifest import TRAIN, Manifest
from fairsynth.stages.embed.embedding import DecodeUnit, EmbedUnit, plan_rows
from fairsynth.stages.embed.embedding import fact_column as fact_column

if TYPE_CHECKING:
    from fairsynth.models.calibration import CrossFitted

# Bytes of vectors that are held at a time.
_AT_ONCE = 1 << 30


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


class GroupEmbeddings(NamedTuple):
    """The embedded training images of a group: ids, and unit vectors float32 (N, D) in their order."""

    group: Group
    ids: list[str]
    embeddings_ND: NDArray[np.float32]


def by_group(artifact: Artifact, manifest: Manifest, most_bytes: int = _AT_ONCE) -> Iterator[GroupEmbeddings]:
    """The embedded training images that the manifest has, a group at a time, in the groups' order.

    All files are read for as many groups as ``most_bytes`` hold, and for one at least: there may be more vectors than memory
    has room for. Whoever keeps a group keeps its memory.
    """
    files = embedding_files(artifact)
    width = pq.read_schema(files[0]).field("embedding").type.list_size
    parts = [pq.ParquetFile(file).read(columns=["image_id"])["image_id"] for file in files]
    ids, train = pa.concat_arrays([chunk for part in parts for chunk in part.chunks]), manifest.split(TRAIN).table
    places_N, groups = grouped(train)
    found = pc.index_in(ids, value_set=train["image_id"].combine_chunks())
    # No group: an image of another split, or without a group.
    of_N = np.append(places_N, -1)[pc.fill_null(found, -1).to_numpy()]
    rows = {group: np.flatnonzero(of_N == place) for place, group in enumerate(groups)}
    starts = np.cumsum([0, *map(len, parts)])
    waiting = sorted(group for group in groups if len(rows[group]))
    while waiting:
        sizes = np.cumsum([len(rows[group]) for group in waiting]) * width * 4
        now = max(1, int(np.searchsorted(sizes, most_bytes, "right")))
        some, waiting = waiting[:now], waiting[now:]
        vectors = _vectors(files, starts, [rows[group] for group in some], width)
        for group in some:
            yield GroupEmbeddings(group, ids.take(pa.array(rows[group])).to_pylist(), vectors.pop(0))


def _vectors(
    files: Sequence[Path], starts: NDArray[np.int64], rows: Sequence[NDArray[np.int64]], width: int
) -> list[NDArray[np.float32]]:
    """The vectors of some rows of all files, numbered through them: (N, D) for each of ``rows``, which are ascending."""
    found = [np.empty((len(one), width), np.float32) for one in rows]
    for file, start, end in zip(files, starts, starts[1:], strict=False):
        embeddings_ND = matrix(pq.ParquetFile(file).read(columns=["embedding"]), "embedding")
        for one, whole in zip(rows, found, strict=True):
            first, last = np.searchsorted(one, (start, end))
            whole[first:last] = embeddings_ND[one[first:last] - start]
    return found


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

    def halves(self) -> tuple[RealImages, RealImages]:
        """Validation images in two: those that teach the probe, and those held out."""
        from fairsynth.models.probe import halves

        split = halves(self.ids, self.groups)
        return self.take(split.probe), self.take(split.held_out)


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


def filter_probe(train: RealImages, teaching: RealImages) -> CrossFitted:
    """The probe that filters synthetic images, calibrated; of validation images it has seen the teaching half alone."""
    from fairsynth.models.calibration import cross_fit

    both_ND = np.concatenate([train.embeddings_ND, teaching.embeddings_ND])
    return cross_fit(both_ND, [*train.groups, *teaching.groups], [*train.ids, *teaching.ids])


def judged_probe(train: RealImages, validation: RealImages) -> CrossFitted:
    """The same, judged by the other half of the validation images, too."""
    teaching, held_out = validation.halves()
    return filter_probe(train, teaching).judged_on(held_out.embeddings_ND, held_out.groups)


def probe_images(artifact: Artifact, manifest: Manifest, split: str) -> RealImages:
    """As many images of each group of a split as teach the probe anything, without thumbnails (N, 0)."""
    from fairsynth.models.probe import used_images

    groups, files = _groups(manifest, split), embedding_files(artifact)
    ids = sorted(i for i in pq.read_table(files, columns=["image_id"])["image_id"].to_pylist() if i in groups)
    chosen = {ids[place]: groups[ids[place]] for place in used_images([groups[i] for i in ids], ids)}
    # A file at a time: there may be more vectors than memory has room for.
    read = (pq.ParquetFile(file).read(columns=["image_id", "embedding"]) for file in files)
    table = pa.concat_tables([_of(part, chosen) for part in read]).sort_by("image_id")
    ids, width = table.column("image_id").to_pylist(), table.schema.field("embedding").type.list_size
    embeddings_ND = matrix(table, "embedding") if ids else np.zeros((0, width), np.float32)
    return RealImages(ids, [groups[i] for i in ids], embeddings_ND, np.zeros((len(ids), 0), np.uint8))


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
    return plan_rows(test.table), decode, work

"""The latents of an adapter's images, from what embed stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import unit_file
from fairsynth.data.vectors import matrix, rows
from fairsynth.stages.embed.output import fact_column
from fairsynth.stages.finetune.denoising import Latents
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.passes import LatentShape
from fairsynth.store.mirror import place_of


class LatentFiles:
    """Reads posteriors from the embeddings' Parquet files, and class latents by class prompt.

    ``prior_facts``: what the network is told of a class image besides its text, (1, …) each.

    Only the ids are held; a job's rows are read when its turn comes, from the files that hold them.
    """

    def __init__(
        self,
        embeddings: Sequence[Path],
        class_files: Mapping[str, Path],
        prior_facts: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.class_files, self.where, self.prior_facts = class_files, dict[str, tuple[Path, int]](), prior_facts or {}
        for path in (unit_file(path) if place_of(path) else path for path in embeddings):
            ids = pq.read_table(path, columns=["image_id"])["image_id"].to_pylist()
            self.where |= {image: (path, row) for row, image in enumerate(ids)}

    def __call__(self, job: AdapterJob) -> Latents:
        """Posteriors of the job's images, in the job's order, and the class latents, if any."""
        wanted: dict[Path, list[int]] = defaultdict(list)
        for image in job.image_ids:
            path, row = self.where[image]
            wanted[path].append(row)
        columns = ["image_id", "mean", "std", "latent_shape", *map(fact_column, self.prior_facts)]
        parts = (pq.read_table(unit_file(path), columns=columns).take(take) for path, take in wanted.items())
        table = pa.concat_tables(parts)
        place = {image: row for row, image in enumerate(table["image_id"].to_pylist())}
        table = table.take([place[image] for image in job.image_ids])
        facts = {name: matrix(table, fact_column(name)).copy() for name in self.prior_facts}
        shapes = [tuple(shape) for shape in table["latent_shape"].to_pylist()]
        if len({*shapes}) > 1:
            mean, std = (_shaped(table, name, shapes) for name in ("mean", "std"))
            return Latents(mean, std, None, facts, self.prior_facts)
        shape = (-1, *shapes[0])
        # Copies: Arrow's own memory is read-only, which torch warns about.
        means, stds = (matrix(table, name).reshape(shape).copy() for name in ("mean", "std"))
        file = self.class_files.get(job.class_prompt)
        prior = None if file is None else matrix(pq.read_table(file), "mean").reshape(shape).copy()
        return Latents(means, stds, prior, facts, self.prior_facts)


def _shaped(table: pa.Table, name: str, shapes: Sequence[LatentShape]) -> list[NDArray[np.float32]]:
    return [row.reshape(shape) for row, shape in zip(rows(table, name), shapes, strict=True)]

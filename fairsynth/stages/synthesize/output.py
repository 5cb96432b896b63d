"""The images of a finished synthesize stage, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.stages.synthesize.selection import members

T = TypeVar("T")
TABLE = "synthetic.parquet"
# Of all accepted images they say the same, or where they were on the way.
_LEFT_OUT = ("verdict", "reason", "unit", "phash")


def accepted(artifact: Artifact) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Row and file of every accepted image, in the table's order: a unit's at a time.

    Text that is missing (an image without adapter) is empty: readers that guess a column's type from its
    first rows would take it for none. Raises DataError if a unit does not hold what the stage's table says.
    """
    return stream(artifact, accepted_mask(artifact))


def accepted_mask(artifact: Artifact) -> NDArray[np.bool_]:
    """Which rows of the table are accepted images."""
    verdict = pq.read_table(artifact.path / TABLE, columns=["verdict"])["verdict"]
    return pc.equal(verdict, "accepted").to_numpy()  # type: ignore[no-any-return]


def unfiltered_mask(artifact: Artifact) -> NDArray[np.bool_]:
    """Which rows are, of each group, the first images made, whatever the filter said: as many as it is to have."""
    table = pq.read_table(artifact.path / TABLE, columns=["label", "attribute"])
    quota = {Group(g["label"], g["attribute"]): g["quota"] for g in artifact.record["groups"]}
    mask = np.zeros(table.num_rows, bool)
    for group, places in members(table).items():
        mask[places[: quota[group]]] = True
    return mask


def stream(artifact: Artifact, mask: NDArray[np.bool_]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Row and file of the images that ``mask`` marks in the table, as ``accepted`` gives them."""
    table = pq.ParquetFile(artifact.path / TABLE)
    texts = [
        field.name for field in table.schema_arrow if pa.types.is_string(field.type) or pa.types.is_null(field.type)
    ]
    rows = (row for batch in _marked(table, mask) for row in batch.to_pylist())
    for unit, inside in groupby(rows, key=lambda row: str(row["unit"])):
        files = unit_files(artifact, unit)
        for row in inside:
            if row["image_id"] not in files:
                raise DataError(
                    f"{artifact.path / 'units' / unit} lacks an image that was made: the stage is damaged; "
                    f"remove {artifact.path} and run 'fairsynth synthesize' again"
                )
            row |= {name: "" for name in texts if row[name] is None}
            yield {k: v for k, v in row.items() if k not in _LEFT_OUT}, files[row["image_id"]]


def _marked(table: pq.ParquetFile, mask: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in table.iter_batches(1000):
        yield batch.filter(pa.array(mask[start : start + batch.num_rows]))
        start += batch.num_rows


def unit_files(artifact: Artifact, unit: str) -> dict[str, bytes]:
    """The encoded files of a unit by image_id; none if it is not there."""
    path = artifact.units()[unit] / "images.parquet"
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["image_id", "file"])
    return dict(zip(table["image_id"].to_pylist(), table["file"].to_pylist(), strict=True))


def read_files(artifact: Artifact, rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The encoded files of some synthetic images, by image_id."""
    wanted = {row["image_id"] for row in rows}
    files: dict[str, bytes] = {}
    for unit in sorted({row["unit"] for row in rows}):
        files |= {i: file for i, file in unit_files(artifact, unit).items() if i in wanted}
    return files


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced: of all units, not of the first ones alone."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else list(items)

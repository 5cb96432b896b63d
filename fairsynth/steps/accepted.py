"""The accepted images of a finished synthesize stage, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact
from fairsynth.errors import DataError

T = TypeVar("T")
TABLE = "synthetic.parquet"
# Of all accepted images they say the same, or where they were on the way.
_LEFT_OUT = ("verdict", "reason", "unit", "phash")


def accepted(artifact: Artifact) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Row and file of every accepted image, in the table's order: a unit's at a time.

    Text that is missing (an image without adapter) is empty: readers that guess a column's type from its
    first rows would take it for none. Raises DataError if a unit does not hold what the stage's table says.
    """
    table = pq.ParquetFile(artifact.path / TABLE)
    texts = [
        field.name for field in table.schema_arrow if pa.types.is_string(field.type) or pa.types.is_null(field.type)
    ]
    batches = (batch.filter(pc.equal(batch["verdict"], "accepted")) for batch in table.iter_batches(1000))
    rows = (row for batch in batches for row in batch.to_pylist())
    for unit, members in groupby(rows, key=lambda row: str(row["unit"])):
        files = unit_files(artifact, unit)
        for row in members:
            if row["image_id"] not in files:
                raise DataError(
                    f"{artifact.path / 'units' / unit} lacks an image that was accepted: the stage is damaged; "
                    f"remove {artifact.path} and run 'fairsynth synthesize' again"
                )
            row |= {name: "" for name in texts if row[name] is None}
            yield {k: v for k, v in row.items() if k not in _LEFT_OUT}, files[row["image_id"]]


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

"""A stage's rows on disk, cut into units: each worker reads the rows of its unit and no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.store.mirror import here, sent


def write_plan(path: Path, rows: pa.Table, unit_size: int, prefix: str) -> list[str]:
    """Write rows as Parquet, one row group per unit; returns the units' names in order."""
    return write_plans(path, {prefix: rows}, unit_size)


def write_plans(path: Path, parts: Mapping[str, pa.Table], unit_size: int) -> list[str]:
    """Write tables of one schema, by the prefix of their units, in one file: no unit has rows of two tables."""
    names: list[str] = []
    with pq.ParquetWriter(path, next(iter(parts.values())).schema) as writer:
        for prefix, rows in parts.items():
            for start in range(0, rows.num_rows, unit_size):
                writer.write_table(rows.slice(start, unit_size), row_group_size=unit_size)
                names.append(f"{prefix}-{len(names):06d}")
    sent(path)
    return names


class PlanRows:
    """Reads the rows of a unit by its name: ``{"rows": [...]}``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str) -> dict[str, Any]:
        with pq.ParquetFile(here(self.path)) as plan:
            return {"rows": plan.read_row_group(int(name.rsplit("-", 1)[1])).to_pylist()}

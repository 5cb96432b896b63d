"""A stage's rows on disk, cut into units: each worker reads the rows of its unit and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_plan(path: Path, rows: pa.Table, unit_size: int, prefix: str) -> list[str]:
    """Write rows as Parquet, one row group per unit; returns the units' names in order."""
    pq.write_table(rows, path, row_group_size=unit_size)
    return [f"{prefix}-{index:06d}" for index in range(-(-rows.num_rows // unit_size))]


class PlanRows:
    """Reads the rows of a unit by its name: ``{"rows": [...]}``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str) -> dict[str, Any]:
        with pq.ParquetFile(self.path) as plan:
            return {"rows": plan.read_row_group(int(name.rsplit("-", 1)[1])).to_pylist()}

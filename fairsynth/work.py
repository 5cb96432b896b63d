"""Work on units: its input and output, and the plain loop that runs it without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Units

Task = Mapping[str, Any]
Tables = Mapping[str, pa.Table]
Work = Callable[[Task], Tables]
"""Makes a unit. It may also have ``begin(task)`` and ``finish(begun)``, which do the same in two parts: then the next
unit is begun before this one is finished, and threads that ``begin`` left behind work beside it."""
RunUnits = Callable[[Sequence[str], Callable[[], Work]], "Ran"]
"""Makes the units of these names with the work that the callable builds."""


@dataclass(frozen=True)
class Ran:
    """Result of a pass over the units: units made, units found finished, mean start-up seconds per worker."""

    made: int = 0
    cached: int = 0
    startup_seconds: float = 0.0

    def __add__(self, other: Ran) -> Ran:
        """Two passes, one after the other."""
        startup = self.startup_seconds + other.startup_seconds
        return Ran(self.made + other.made, self.cached + other.cached, startup)


def startup(began: float, ready: float) -> float:
    """Seconds from ``began``, by this machine's clock, until a worker was ``ready``, by its own (both of ``time.time``).

    The clocks of two machines differ: never less than 0, nor more than has passed here by now.
    """
    return min(max(0.0, ready - began), max(0.0, time.time() - began))


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table as ``<name>.parquet``."""
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")


def run_local(
    units: Units, names: Sequence[str], make: Callable[[], Work], prepare: Callable[[str], Task] | None = None
) -> Ran:
    """Make the missing units, one after the other, in this process."""
    work, pending = make(), [name for name in names if not units.has(name)]
    for name in pending:
        tables = work({"name": name, **(prepare(name) if prepare else {})})
        units.commit(name, partial(write_tables, tables))
    return Ran(len(pending), len(names) - len(pending))

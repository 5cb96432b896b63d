"""Rounds of making images: planned, made on the cluster, judged, and again for what is missing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, sync
from fairsynth.config import FilterConfig, SynthesizeConfig
from fairsynth.engine.session import Session
from fairsynth.engine.units import Ran, Work, run_units
from fairsynth.groups import Group
from fairsynth.stages import selection
from fairsynth.stages.generate import SEEN
from fairsynth.stages.image_plan import SCHEMA, Source, plan_images
from fairsynth.stages.routing import Trial

# What is kept of an image in the driver: neither its file nor its vector.
COLUMNS = [*SCHEMA.names, *SEEN.names]
EMPTY = pa.schema([*SCHEMA, *SEEN]).empty_table()
Maker = Callable[[Path], Callable[[], Work]]
"""From the plan's file to what builds the work inside an actor."""


@dataclass
class Rounds:
    """Makes images in rounds, in units that are committed on their own."""

    session: Session
    artifact: Artifact
    config: SynthesizeConfig
    filter: FilterConfig
    seed: int
    make: Maker
    copy_threshold: float | None = None
    stack: bool = True
    """Whether adapters may share a batch; whole UNets cannot."""
    ran: Ran = field(default_factory=lambda: Ran(0, 0, 0.0))

    def until_full(
        self, quota: Mapping[Group, int], sources: Mapping[Group, Sequence[Source]]
    ) -> tuple[pa.Table, pa.ChunkedArray]:
        """All images that were made, in the order of their units, and each one's verdict.

        Ends when every group has its quota, or after ``filter.max_rounds``.
        """
        needed = {group: selection.candidates_needed(n, self.filter.keep) for group, n in quota.items()}
        images, verdict = EMPTY, pa.chunked_array([], pa.string())
        for index in range(self.filter.max_rounds):
            made = self._made(self._plan(needed, sources, index), f"plan-{index}")
            images = pa.concat_tables([images, made]) if index else made
            verdict = selection.verdicts(images, quota, self.filter, self.copy_threshold)
            needed = selection.next_round(images, verdict, quota, self.filter.keep)
            if not needed:
                break
        return images, verdict

    def trials(
        self, wanted: Sequence[tuple[Group, str]], sources: Mapping[Group, Mapping[str, Sequence[Source]]]
    ) -> tuple[pa.Table, dict[tuple[Group, str], Trial]]:
        """A trial batch for each group and way, and how many of its images show their group, by the probe."""
        plans = []
        for way in sorted({way for _, way in wanted}):
            groups = {group: sources[group][way] for group, other in wanted if other == way}
            needed = dict.fromkeys(groups, self.config.trial_images)
            plans.append(self._plan(needed, groups, 0, trial=True))
        if not plans:
            return EMPTY, {}
        plan = _renamed(plans)
        images = self._made(plan, "plan-trials")
        rows, found = images.to_pylist(), {}
        for group, way in wanted:
            mine = [r for r in rows if (r["label"], r["attribute"], r["route"]) == (*group, way)]
            found[group, way] = Trial(len(mine), sum(shows_its_group(row) for row in mine))
        return images, found

    def _plan(
        self,
        needed: Mapping[Group, int],
        sources: Mapping[Group, Sequence[Source]],
        index: int,
        trial: bool = False,
    ) -> pa.Table:
        uniform = self.config.cluster_shares == "uniform"
        return plan_images(needed, sources, self.seed, index, self.config.unit_size, uniform, trial, self.stack)

    def _made(self, plan: pa.Table, name: str) -> pa.Table:
        path = self.artifact.path / f"{name}.parquet"
        if path.exists():
            # A run that goes on elsewhere keeps to the plan that it began with, whatever rounding did to a verdict.
            plan = pq.read_table(path, columns=["unit"])
        else:
            write_table(plan, path)
        units = plan["unit"].unique().to_pylist()
        ran = run_units(self.session, "synthesize", self.artifact.units(), units, self.make(path))
        before = self.ran
        self.ran = Ran(before.made + ran.made, before.cached + ran.cached, before.startup_seconds + ran.startup_seconds)
        return read_units(self.artifact, units)


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet so that the file is either absent or complete."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, temporary)
    sync(temporary)
    temporary.replace(path)


def shows_its_group(row: Mapping[str, Any]) -> bool:
    """Whether the probe sees both label and attribute in an image."""
    return not row["constant"] and min(row["label_probability"], row["attribute_probability"]) >= 0.5


def read_units(artifact: Artifact, units: Sequence[str]) -> pa.Table:
    """The rows of units, in their order, as the driver keeps them."""
    folder = artifact.units()
    # ParquetFile, for read_table looks around in the folder first: three times the work for files so small.
    files = (pq.ParquetFile(folder[name] / "images.parquet") for name in units)
    return pa.concat_tables([EMPTY, *(file.read(columns=COLUMNS) for file in files)])


def _renamed(plans: Sequence[pa.Table]) -> pa.Table:
    """Plans that were cut into units for themselves, as one: each way's units get its number."""
    place = SCHEMA.get_field_index("unit")
    return pa.concat_tables(
        plan.set_column(place, "unit", pa.array([f"{name}-w{i}" for name in plan["unit"].to_pylist()], pa.string()))
        for i, plan in enumerate(plans)
    )

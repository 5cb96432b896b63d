"""Rounds of making images: planned, made on the cluster, filtered, and again for what is missing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, sync
from fairsynth.config import FilterConfig, ModelsConfig, SynthesizeConfig
from fairsynth.data.near_duplicates import spread_out
from fairsynth.groups import Group
from fairsynth.models.probe import SEEN_FROM
from fairsynth.stages.synthesize import selection
from fairsynth.stages.synthesize.generate import SEEN
from fairsynth.stages.synthesize.image_plan import SCHEMA, SHAPED, ShapesOf, Source, plan_images
from fairsynth.stages.synthesize.told import told_first
from fairsynth.stages.synthesize.trial_batches import TrialBatch
from fairsynth.store.mirror import newest, sent
from fairsynth.work import Ran, RunUnits, Work

# Columns that the driver keeps: neither file nor vector. Text that many rows share is held once.
_OWN_TEXT = ("image_id", "sha256")


def _kept(plan: pa.Schema) -> pa.Schema:
    return pa.schema(
        [
            field.with_type(pa.dictionary(pa.int32(), pa.string()))
            if field.type == pa.string() and field.name not in _OWN_TEXT
            else field
            for field in (*plan, *SEEN)
        ]
    )


KEPT, KEPT_SHAPED = _kept(SCHEMA), _kept(SHAPED)
EMPTY = KEPT.empty_table()
# Units that a worker may be handed at once: while it makes the images of one, the files of another are written.
UNITS_PER_CALL = 8
# Units whose tables are joined at a time, and rows written at a time.
_UNITS, _ROWS = 1024, 65_536
Maker = Callable[[Path], Callable[[], Work]]
"""Maps a plan's file to a builder of the work inside an actor."""


@dataclass
class Rounds:
    """Makes images in rounds, in units that are committed one by one. ``run_units`` makes units by their names."""

    run_units: RunUnits
    artifact: Artifact
    config: SynthesizeConfig
    filter: FilterConfig
    seed: int
    make: Maker
    copy_threshold: float | None = None
    stack: bool = True
    """Whether adapters may share a batch; whole UNets cannot."""
    told: tuple[ModelsConfig, Sequence[str]] | None = None
    """The models, and all texts that their rounds may use, which one worker encodes before the first; None: each for itself."""
    shapes: ShapesOf | None = None
    """Shapes of the images to make; None: squares."""
    ran: Ran = field(default_factory=Ran)

    def __post_init__(self) -> None:
        if self.told is not None:
            self.run_units = told_first(self.run_units, self.artifact.units(), *self.told)

    def until_full(
        self, quota: Mapping[Group, int], sources: Mapping[Group, Sequence[Source]]
    ) -> tuple[pa.Table, pa.ChunkedArray]:
        """All images that were made, in the order of their units, and each one's verdict.

        Ends when every group has its quota, or after ``filter.max_rounds``.
        """
        needed = {group: selection.candidates_needed(n, self.filter.keep) for group, n in quota.items()}
        images, verdict = EMPTY, pa.chunked_array([], pa.string())
        if not any(needed.values()):
            return images, verdict
        for index in range(self.filter.max_rounds):
            made = self._made(f"plan-{index}", partial(self._plan, needed, sources, index, earlier=images))
            images = pa.concat_tables([images, made]) if index else made
            verdict = selection.verdicts(images, quota, self.filter, self.copy_threshold)
            needed = selection.next_round(images, verdict, quota, self.filter.keep)
            if not needed:
                break
        return images, verdict

    def trials(
        self, wanted: Sequence[tuple[Group, str]], sources: Mapping[Group, Mapping[str, Sequence[Source]]]
    ) -> tuple[pa.Table, dict[tuple[Group, str], TrialBatch]]:
        """A trial batch for each group and route, and how many of its images show their group, by the probe.

        Copies of training images show nothing, and of images that look alike one counts: the filter keeps no more.
        """
        if not wanted:
            return EMPTY, {}
        images = self._made("plan-trials", partial(self._trial_plan, wanted, sources))
        copies = selection.unusable(images, self.filter, self.copy_threshold)["near_copy"].tolist()
        rows = [row | {"copy": copy} for row, copy in zip(images.to_pylist(), copies, strict=True)]
        trials: dict[tuple[Group, str], TrialBatch] = {}
        for group, route in wanted:
            batch = [r for r in rows if (r["label"], r["attribute"], r["route"]) == (*group, route)]
            passing = [row for row in batch if depicts_its_group(row)]
            right = self._different([row for row in passing if not row["copy"]])
            trials[group, route] = TrialBatch(len(batch), right, len(passing))
        return images, trials

    def _different(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """How many of these images do not look like one before them; all, if the filter does not ask."""
        if not rows or not self.filter.near_duplicates:
            return len(rows)
        hashes, looks = (np.stack([np.frombuffer(row[name], np.uint8) for row in rows]) for name in ("phash", "look"))
        return len(spread_out(hashes, looks))

    def _trial_plan(
        self, wanted: Sequence[tuple[Group, str]], sources: Mapping[Group, Mapping[str, Sequence[Source]]]
    ) -> pa.Table:
        plans = []
        for route in sorted({route for _, route in wanted}):
            groups = {group: sources[group][route] for group, other in wanted if other == route}
            needed = dict.fromkeys(groups, self.config.trial_images)
            plans.append(self._plan(needed, groups, 0, trial=True))
        return _renamed(plans)

    def _plan(
        self,
        needed: Mapping[Group, int],
        sources: Mapping[Group, Sequence[Source]],
        index: int,
        trial: bool = False,
        earlier: pa.Table | None = None,
    ) -> pa.Table:
        uniform, size = self.config.cluster_shares == "uniform", self.config.unit_size
        return plan_images(needed, sources, self.seed, index, size, uniform, trial, self.stack, earlier, self.shapes)

    def _made(self, name: str, plan: Callable[[], pa.Table]) -> pa.Table:
        """The images of a plan. Only its units' names are held while they are made."""
        path = self.artifact.path / f"{name}.parquet"
        # A resumed run keeps the plan that it began with, even if rounding on another machine changed a verdict.
        if not newest(path).exists():
            write_table(plan(), path)
            sent(path)
        units = pq.read_table(path, columns=["unit"], read_dictionary=["unit"])["unit"].unique().to_pylist()
        self.ran += self.run_units(units, self.make(path))
        return read_units(self.artifact, units)


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet so that the file is either absent or complete; text that is held once becomes plain text."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    plain = pa.schema([_plain(field) for field in table.schema])
    with pq.ParquetWriter(temporary, plain) as writer:
        for start in range(0, table.num_rows, _ROWS):
            writer.write_table(table.slice(start, _ROWS).cast(plain))
    sync(temporary)
    temporary.replace(path)


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def depicts_its_group(row: Mapping[str, Any]) -> bool:
    """Whether the probe sees both label and attribute in an image."""
    return not row["constant"] and min(row["label_probability"], row["attribute_probability"]) >= SEEN_FROM


def read_units(artifact: Artifact, units: Sequence[str]) -> pa.Table:
    """The rows of units, in their order, as the driver keeps them."""
    folder, parts = artifact.units(), list[pa.Table]()
    for start in range(0, len(units), _UNITS):
        folder.here(units[start : start + _UNITS])
        # ParquetFile, because read_table searches the folder first: three times the work for files this small.
        files = (pq.ParquetFile(folder[name] / "images.parquet") for name in units[start : start + _UNITS])
        shaped = "height" in pq.read_schema(folder[units[start]] / "images.parquet").names
        kept = KEPT_SHAPED if shaped else KEPT
        part = pa.concat_tables([file.read(columns=kept.names).cast(kept) for file in files])
        parts.append(part.unify_dictionaries().combine_chunks())
    return pa.concat_tables(parts).unify_dictionaries() if parts else EMPTY


def _renamed(plans: Sequence[pa.Table]) -> pa.Table:
    """Join plans that were cut into units one by one: the units of a plan get its number."""
    place = SCHEMA.get_field_index("unit")
    return pa.concat_tables(
        plan.set_column(place, "unit", pa.array([f"{name}-w{i}" for name in plan["unit"].to_pylist()], pa.string()))
        for i, plan in enumerate(plans)
    )

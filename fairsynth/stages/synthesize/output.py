"""What synthesize leaves: every image that was made, streamed, and what became of each group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.config import RunConfig
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised
from fairsynth.prompts import fill

TABLE = "synthetic.parquet"
NONE_JUDGED = Recognised(0, 0)
ACCEPTED = "accepted"
# An image's reason is the first of these that holds.
REASONS = ("constant", "near_copy", "wrong_label", "wrong_attribute", "duplicate", "near_duplicate", "low_score")
Reason = Literal["", "absent", "probe", "trial", "unsure", "alike"]
"""Why a group was not made. absent: no training images; probe: the filter does not know it; trial: no route shows it;
unsure: too many images would pass the filter that do not show it;
alike: another group with its attribute is not made. Empty: it was made."""
# Columns that are equal for all accepted images, or that only locate them.
_LEFT_OUT = ("verdict", "reason", "unit", "phash")


@dataclass(frozen=True)
class GroupRecord:
    """Result of one group: how its images were made, and how many were kept."""

    group: Group
    real: int
    """Real training images."""
    quota: int
    """Accepted images wanted."""
    origin: str
    """own, borrowed, shared, prompt, or none for a group that was not made."""
    route: str
    """The route by which its images were made, or none."""
    why: str
    adapters: tuple[str, ...]
    prompts: tuple[str, ...]
    k: int
    """Adapters that made its images."""
    made: int
    accepted: int
    rejected: Mapping[str, int]
    """Images that are not in the set, by reason."""
    probe_agreement_made: float | None
    """Share of the images made whose label and attribute the filter's probe sees; None if none was made."""
    remark: str
    not_made: Reason = ""
    """Why it was not made; ``why`` says it in words."""
    recognised: Recognised = NONE_JUDGED
    """Real images that the probe recognises, of those that it has not learnt from."""

    def to_json(self) -> dict[str, Any]:
        """As the stage's record and report.json have it."""
        fields = {key: value for key, value in vars(self).items() if key not in ("group", "origin", "route")}
        named = {"label": self.group.label, "attribute": self.group.attribute}
        return named | fields | {"generator": self.origin, "way": self.route, "synthetic": self.accepted}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GroupRecord:
        """From what ``to_json`` gave."""
        fields = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        fields |= {key: tuple(record[key]) for key in ("adapters", "prompts")}
        fields["recognised"] = Recognised(*record.get("recognised", (0, 0)))
        group = Group(record["label"], record["attribute"])
        return cls(group=group, origin=record["generator"], route=record["way"], **fields)


def group_records(artifact: Artifact) -> list[GroupRecord]:
    """The records of all groups, in their order."""
    return [GroupRecord.from_json(record) for record in artifact.record["groups"]]


def group_texts(config: RunConfig, groups: Iterable[Group]) -> dict[Group, str]:
    """The prompt of each group."""
    return {group: fill(config.synthesize.prompt, config.data, group) for group in sorted({*groups})}


def members(images: pa.Table) -> dict[Group, NDArray[np.int64]]:
    """Places of every group's images."""
    codes = [images[name].unify_dictionaries().combine_chunks().dictionary_encode() for name in ("label", "attribute")]
    label, attribute = (code.indices.to_numpy(zero_copy_only=False).astype(np.int64) for code in codes)
    labels, attributes = (code.dictionary.to_pylist() for code in codes)
    both = label * max(1, len(attributes)) + attribute
    return {
        Group(labels[value // len(attributes)], attributes[value % len(attributes)]): np.flatnonzero(both == value)
        for value in np.unique(both).tolist()
    }


def accepted(artifact: Artifact) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Row and file of every accepted image, in the table's order: a unit's at a time.

    Missing text (an image without adapter) is empty, because readers that guess a column's type from its first rows
    would take null for another type. Raises DataError if a unit does not hold what the stage's table says.
    """
    return stream(artifact, accepted_mask(artifact))


def accepted_mask(artifact: Artifact) -> NDArray[np.bool_]:
    """Which rows of the table are accepted images."""
    verdict = pq.read_table(artifact.path / TABLE, columns=["verdict"])["verdict"]
    return pc.equal(verdict, ACCEPTED).to_numpy()  # type: ignore[no-any-return]


def unfiltered_mask(artifact: Artifact) -> NDArray[np.bool_]:
    """Which rows are the first images made of each group, up to its quota, whatever the filter's verdict."""
    table = pq.read_table(artifact.path / TABLE, columns=["label", "attribute"])
    quota = {record.group: record.quota for record in group_records(artifact)}
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
    """The encoded files of a unit by image_id; none if the unit is missing."""
    units = artifact.units()
    if not units.has(unit):
        return {}
    # ParquetFile, because read_table searches the folder first: three times the work for files this small.
    table = pq.ParquetFile(units[unit] / "images.parquet").read(columns=["image_id", "file"])
    return dict(zip(table["image_id"].to_pylist(), table["file"].to_pylist(), strict=True))


def read_files(artifact: Artifact, rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The encoded files of some synthetic images, by image_id."""
    wanted = {row["image_id"] for row in rows}
    files: dict[str, bytes] = {}
    for unit in sorted({row["unit"] for row in rows}):
        files |= {i: file for i, file in unit_files(artifact, unit).items() if i in wanted}
    return files

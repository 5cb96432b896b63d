"""Finished stages whose set lacks groups, or has no image at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.config import RunConfig
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised
from fairsynth.stages.synthesize.codec import Codec
from fairsynth.stages.synthesize.decisions import Decisions
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.not_made import NotMade
from fairsynth.stages.synthesize.output import TABLE, GroupRecord
from fairsynth.stages.synthesize.records import records_of, with_provenance
from fairsynth.stages.synthesize.rounds import EMPTY, write_table
from fairsynth.stages.synthesize.routing import Route
from tests.support.datasets import encoded, picture
from tests.support.synthesize.routes import HB, HF, LB, LF
from tests.support.synthesize.verdicts import image

ALL = (HB, HF, LB, LF)
REAL = {LB: 300, HF: 300, LF: 15, HB: 15}
NOT_SHOWN = NotMade("trial", "its trial batches do not show it: 0 of 24 images by prompt")
ALIKE = NotMade("alike", "groups of an attribute are made alike: (low, flower) cannot be shown")
PROMPT = Route("prompt", "no group with this attribute has an adapter")
CONFIG = RunConfig()
Ways = Mapping[Group, tuple[str, float]]
"""Route and guidance of groups that are not made by the prompt with guidance 5."""


def decided(made: Sequence[Group], ways: Ways) -> Decisions:
    """These groups are made by the prompt, or as said; of the others the rare ones are not shown."""
    left = {group: NOT_SHOWN if REAL[group] < 30 else ALIKE for group in ALL if group not in made}
    routes = {group: Route(ways[group][0], "chosen") if group in ways else PROMPT for group in made}
    return Decisions(routes, left, EMPTY, {})


def records(made: Sequence[Group], table: pa.Table, ways: Ways) -> list[GroupRecord]:
    """What became of all four groups, of which each wanted three images."""
    sources = {group: [Source("prompt", None, 0, f"a {group.label}", 1)] for group in made}
    remarks = dict.fromkeys(ALL, "") | {HB: "fewer images than cluster.min_group"}
    judged = dict.fromkeys(ALL, Recognised(8, 10))
    return records_of(ALL, table, dict.fromkeys(ALL, 3), sources, decided(made, ways), REAL, remarks, judged)


def stage(root: Path, made: Sequence[Group] = (), ways: Ways | None = None) -> Artifact:
    """A finished stage: three accepted images and a rejected one of each group that was made."""
    artifact, ways = Artifact(root, Identity("synthesize", 1, {}, {})), ways or {}
    artifact.open()
    rows = [_row(group, i, *ways.get(group, ("prompt", 5.0))) for group in made for i in range(4)]
    verdict = pa.chunked_array([pa.array([row.pop("said") for row in rows], pa.string())])
    images = pa.Table.from_pylist(rows, EMPTY.schema) if rows else EMPTY
    table = with_provenance(images, verdict, CONFIG, "revision", artifact.units())
    write_table(table, artifact.path / TABLE)
    for unit in sorted({row["unit"] for row in rows}):
        files = [{"image_id": row["image_id"], "file": encoded(picture(0, 0, i))} for i, row in enumerate(rows)]
        artifact.units()[unit].mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(files), artifact.units()[unit] / "images.parquet")
    found = records(made, table, ways)
    kept = sum(record.accepted for record in found)
    facts: Mapping[str, Any] = {"codec": Codec("PNG", "RGB", 32).to_dict(), "groups": [r.to_json() for r in found]}
    artifact.finish(Counts(len(rows), kept, 0, len(rows) - kept), 0, **facts)
    return artifact


def _row(group: Group, i: int, route: str, guidance: float) -> dict[str, Any]:
    row = dict.fromkeys(EMPTY.column_names) | image(group, f"{group.label}-{group.attribute}-{i}", i / 10)
    row |= {"unit": "r0-0000-base-00000", "route": route, "prompt": f"a {group.label}", "seed": i, "round": 0}
    return row | {"cluster": 0, "guidance": guidance, "said": "accepted" if i else "wrong_label"}

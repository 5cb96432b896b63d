"""Which images the report shows: drawn at random by the run's seed, group by group."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.groups import Group
from fairsynth.manifest import Manifest, seed_for
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, members

# Real images of a group; and of its synthetic ones the units that are read: a unit's file holds all its images.
REAL, UNITS = 200, 12
_COLUMNS = ["image_id", "unit", "label", "attribute", "adapter", "cluster", "verdict", "reason"]


@dataclass(frozen=True)
class Drawn:
    """The images of a group that may be shown, in random order, and how many there are of each kind.

    ``real``: rows of the manifest, ``by_cluster`` some of each cluster. ``accepted`` and ``rejected``: rows of the table
    of synthetic images, from some of its units. ``totals``: of the group's images, by kind and by reason; ``of_cluster``:
    the same of each cluster, its own adapter's images. ``own_adapters``: whether each cluster has an adapter of its own.
    """

    group: Group
    real: list[dict[str, Any]]
    by_cluster: Mapping[int, list[dict[str, Any]]]
    accepted: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    totals: Mapping[str, int]
    of_cluster: Mapping[int, Mapping[str, int]]
    own_adapters: bool = True

    def own(self, row: Mapping[str, Any]) -> int | None:
        """The group's cluster whose adapter made a synthetic image; None if another adapter or a prompt alone did."""
        # A group's only adapter is named like that of its first cluster.
        mine = self.own_adapters and row["adapter"] == f"{self.group.slug}--{row['cluster']}"
        return int(row["cluster"]) if mine else None


def draw(
    synthesized: Artifact,
    train: Manifest,
    clusters: Mapping[Group, Mapping[str, int]],
    seed: int,
    per_cluster: int,
    own_adapters: bool = True,
) -> list[Drawn]:
    """The drawn images of every group that has real or synthetic ones. ``clusters``: cluster by image id, of each group.

    ``own_adapters``: whether each cluster has an adapter of its own, as the generator clustered-dreambooth makes them.
    """
    table = pq.read_table(synthesized.path / TABLE, columns=_COLUMNS)
    real, made = members(train.table.select(["label", "attribute"])), members(table)
    none = np.zeros(0, np.int64)
    return [
        _drawn(
            group,
            train,
            real.get(group, none),
            clusters.get(group, {}),
            table,
            made.get(group, none),
            seed,
            per_cluster,
            own_adapters,
        )
        for group in sorted({*real, *made})
    ]


def _drawn(
    group: Group,
    train: Manifest,
    real: NDArray[np.int64],
    clusters: Mapping[str, int],
    table: pa.Table,
    made: NDArray[np.int64],
    seed: int,
    per_cluster: int,
    own_adapters: bool,
) -> Drawn:
    chance = random.Random(seed_for("report", seed, *group))  # noqa: S311
    members_of: dict[int, list[str]] = {}
    for image, cluster in sorted(clusters.items()):
        members_of.setdefault(cluster, []).append(image)
    chosen = {cluster: _some(chance, ids, per_cluster) for cluster, ids in sorted(members_of.items())}
    in_clusters = _rows(train, [image for ids in chosen.values() for image in ids])
    its = table.take(pa.array(made))
    units = _some(chance, sorted(set(its["unit"].to_pylist())), UNITS)
    rows = its.filter(pc.is_in(its["unit"], value_set=pa.array(units, pa.string()))).to_pylist()
    chance.shuffle(rows)
    good = int(pc.sum(pc.equal(its["verdict"], ACCEPTED)).as_py() or 0)
    reasons = {
        value["values"]: value["counts"] for value in pc.value_counts(its["reason"].combine_chunks()).to_pylist()
    }
    return Drawn(
        group,
        train.table.take(pa.array(_some(chance, real.tolist(), REAL), pa.int64())).to_pylist(),
        {cluster: [in_clusters[image] for image in ids if image in in_clusters] for cluster, ids in chosen.items()},
        [row for row in rows if row["verdict"] == ACCEPTED],
        [row for row in rows if row["verdict"] != ACCEPTED],
        {"real": len(real), "accepted": good} | {reason: n for reason, n in reasons.items() if reason},
        {
            cluster: {"real": len(ids)} | _made_by(its, f"{group.slug}--{cluster}" if own_adapters else None)
            for cluster, ids in sorted(members_of.items())
        },
        own_adapters,
    )


def _made_by(its: pa.Table, adapter: str | None) -> dict[str, int]:
    verdicts = its.filter(pc.equal(its["adapter"], adapter))["verdict"].to_pylist() if adapter else []
    good = sum(verdict == ACCEPTED for verdict in verdicts)
    return {"accepted": good, "rejected": len(verdicts) - good}


def _some(chance: random.Random, items: Sequence[Any], most: int) -> list[Any]:
    return chance.sample([*items], min(most, len(items)))


def _rows(train: Manifest, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = train.table.filter(pc.is_in(train.table["image_id"], value_set=pa.array(ids, pa.string())))
    return {row["image_id"]: row for row in found.to_pylist()}

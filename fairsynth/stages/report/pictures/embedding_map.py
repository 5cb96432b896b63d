"""The embedding map: each group's real and synthetic images as points, by the first two principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.data.vectors import matrix
from fairsynth.groups import Group
from fairsynth.stages.embed.output import embedding_files
from fairsynth.stages.report.pictures.drawn import Drawn

# Points of each kind in a group's map.
POINTS = 150
COLOURS = 8
_SIZE, _EDGE = 100.0, 4.0


@dataclass(frozen=True)
class Points:
    """Points of one kind and colour: x and y in 0 to 100, y downwards. ``cluster`` is None for those of no cluster."""

    synthetic: bool
    cluster: int | None
    xy_N2: NDArray[np.float64]

    @property
    def path(self) -> str:
        """SVG path data: a dot of no length for a real image, a cross for a synthetic one."""
        if self.synthetic:
            return "".join(f"M{x - 1:.1f} {y:.1f}h2m-1-1v2" for x, y in self.xy_N2)
        return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in self.xy_N2)

    @property
    def colour(self) -> str:
        """Class of its colour; colours come again after COLOURS clusters."""
        return "c-none" if self.cluster is None else f"c{self.cluster % COLOURS}"


@dataclass(frozen=True)
class Map:
    """A group's map. ``variance``: the share of the spread that the two directions hold."""

    group: Group
    points: Sequence[Points]
    real: int
    synthetic: int
    variance: float

    @property
    def clusters(self) -> list[int]:
        """The clusters that have points."""
        return sorted({part.cluster for part in self.points if part.cluster is not None})


def maps(
    drawn: Sequence[Drawn], embedded: Artifact, synthesized: Artifact, clusters: Mapping[Group, Mapping[str, int]]
) -> list[Map]:
    """A map of every group with three images or more that have vectors."""
    wanted = {row["image_id"] for one in drawn for row in one.real[:POINTS]}
    real = _vectors(embedding_files(embedded), wanted)
    found = []
    for one in drawn:
        made = _vectors(_files(synthesized, one), {row["image_id"] for row in one.accepted[:POINTS]})
        its = clusters.get(one.group, {})
        places = [(False, its.get(row["image_id"]), real.get(row["image_id"])) for row in one.real[:POINTS]]
        places += [(True, one.own(row), made.get(row["image_id"])) for row in one.accepted[:POINTS]]
        known = [(kind, cluster, vector) for kind, cluster, vector in places if vector is not None]
        if len(known) > 2:
            found.append(_map(one.group, known))
    return found


def project(vectors_ND: NDArray[np.float32], weights_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The first two principal components (N, 2), weighted, and the share of the variance that they hold.

    Each component's sign is such that its largest entry is positive: the same map on every machine.
    """
    weights_N = weights_N / weights_N.sum()
    centred_ND = vectors_ND - weights_N @ vectors_ND
    _, spread, axes = np.linalg.svd(centred_ND * np.sqrt(weights_N)[:, None], full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(1)])[:, None]
    total = float((spread**2).sum())
    return centred_ND @ axes.T, float((spread[:2] ** 2).sum()) / total if total else 1.0


def _map(group: Group, known: Sequence[tuple[bool, int | None, Any]]) -> Map:
    kinds = np.array([kind for kind, _, _ in known])
    # Real and synthetic images count as much as each other, however many there are.
    counts = {kind: max(1, int((kinds == kind).sum())) for kind in (True, False)}
    weights = np.array([1.0 / counts[bool(kind)] for kind in kinds])
    xy_N2, variance = project(np.stack([vector for _, _, vector in known]).astype(np.float64), weights)
    low, high = xy_N2.min(0), xy_N2.max(0)
    scale = (_SIZE - 2 * _EDGE) / max(float((high - low).max()), 1e-9)
    placed = _SIZE / 2 + (xy_N2 - (low + high) / 2) * scale
    parts: dict[tuple[bool, int | None], list[int]] = {}
    for place, (kind, cluster, _) in enumerate(known):
        parts.setdefault((kind, cluster), []).append(place)
    order = sorted(parts, key=lambda part: (part[0], -1 if part[1] is None else part[1]))
    points = [Points(kind, cluster, placed[parts[kind, cluster]]) for kind, cluster in order]
    return Map(group, points, int((~kinds).sum()), int(kinds.sum()), variance)


def _files(synthesized: Artifact, one: Drawn) -> list[Path]:
    units = sorted({str(row["unit"]) for row in one.accepted[:POINTS]})
    return [synthesized.units()[unit] / "images.parquet" for unit in units]


def _vectors(files: Sequence[Path], wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors of some images: no more than a file's are in memory."""
    found: dict[str, NDArray[np.float32]] = {}
    for file in files if wanted else ():
        table = pq.read_table(file, columns=["image_id", "embedding"], filters=[("image_id", "in", wanted)])
        if table.num_rows:
            found |= dict(zip(table["image_id"].to_pylist(), matrix(table, "embedding"), strict=True))
    return found

"""Grids of images for the report: real, accepted and rejected ones of each group and of each of its clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairsynth.artifacts import Artifact
from fairsynth.config.report import Faces
from fairsynth.data.location import ImageReader, same_content
from fairsynth.groups import Group
from fairsynth.stages.report.pictures.drawn import Drawn
from fairsynth.stages.report.pictures.sheets import BUDGET, Panel, Sheet, sheets, tile
from fairsynth.stages.synthesize.output import read_files

PER_PANEL, PER_CLUSTER, PER_REASON = 24, 6, 6
# More tiles than these would not fit into the page: with many groups each has fewer.
_MOST_TILES = 4000
_LEAST = 6
REASONS = {
    "constant": "a single colour",
    "near_copy": "too close to a training image",
    "wrong_label": "does not show its label",
    "wrong_attribute": "does not show its attribute",
    "duplicate": "the same as another one",
    "near_duplicate": "almost the same as another one",
    "low_score": "fits its words and its group less than the others",
}


@dataclass(frozen=True)
class Row:
    """A row of pictures: real, synthetic, and rejected ones by reason. ``title`` is empty for the whole group.

    ``accepted`` is None for the clusters of a group that was not made by their adapters.
    """

    title: str
    real: Sheet
    accepted: Sheet | None
    rejected: Sequence[Sheet]


@dataclass(frozen=True)
class Grid:
    """A group's pictures: of the group as a whole, then of each cluster."""

    group: Group
    whole: Row
    clusters: Sequence[Row]


def grids(drawn: Sequence[Drawn], synthesized: Artifact, images: ImageReader, faces: Faces) -> list[Grid]:
    """The pictures of every group; none if ``faces`` is hidden.

    Raises DataError for a real image that is not what it was when it was ingested.
    """
    if faces == "hidden":
        return []
    most = max(_LEAST, min(PER_PANEL, _MOST_TILES // (3 * len(drawn) or 1)))
    plans = [_plan(one, most) for one in drawn]
    panels: list[Panel] = []
    for rows in plans:
        files = read_files(synthesized, [row for _, _, made in rows for _, part, _ in made for row in part])
        for _, (caption, real, total), made in rows:
            panels.append(Panel(caption, [tile(same_content(images, row), faces) for row in real], total))
            panels += [Panel(said, [tile(files[row["image_id"]], faces) for row in part], n) for said, part, n in made]
    done = iter(sheets(panels, BUDGET))
    found = []
    for one, rows in zip(drawn, plans, strict=True):
        shown = []
        for title, _, made in rows:
            its = [next(done) for _ in range(1 + len(made))]
            shown.append(Row(title, its[0], its[1] if made else None, its[2:]))
        found.append(Grid(one.group, shown[0], shown[1:]))
    return found


_Part = tuple[str, list[dict[str, Any]], int]


def _plan(one: Drawn, most: int) -> list[tuple[str, _Part, list[_Part]]]:
    """The rows of a group: title, the real images, the synthetic ones; each part a caption, its images, and their number."""
    totals = one.totals
    rows: list[tuple[str, _Part, list[_Part]]] = [
        (
            "",
            ("real", one.real[:most], totals["real"]),
            [("synthetic, accepted", one.accepted[:most], totals["accepted"]), *_rejected(one.rejected, totals)],
        )
    ]
    by_own = any(counts["accepted"] + counts["rejected"] for counts in one.of_cluster.values())
    for cluster, members in one.by_cluster.items():
        counts = one.of_cluster[cluster]
        its = [[row for row in part if one.own(row) == cluster][:PER_CLUSTER] for part in (one.accepted, one.rejected)]
        made = [("synthetic, by its adapter", its[0], counts["accepted"]), ("rejected", its[1], counts["rejected"])]
        rows.append((f"Cluster {cluster}", ("real", members, counts["real"]), made if by_own else []))
    return rows


def _rejected(rows: Sequence[dict[str, Any]], totals: Mapping[str, int]) -> list[_Part]:
    reasons = [reason for reason in totals if reason not in ("real", "accepted")]
    return [
        (
            f"rejected: {REASONS.get(reason, reason)}",
            [row for row in rows if row["reason"] == reason][:PER_REASON],
            totals[reason],
        )
        for reason in sorted(reasons, key=lambda reason: -totals[reason])
    ]

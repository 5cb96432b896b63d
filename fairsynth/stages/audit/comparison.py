"""The accepted images beside real ones: all figures but those of copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsynth.data.vectors import matrix
from fairsynth.groups import Group
from fairsynth.models.probe import Probe
from fairsynth.stages.audit.figures import Images, cluster_figures, group_figures, shortcuts
from fairsynth.stages.audit.inputs import Seen
from fairsynth.stages.embed.output import RealImages
from fairsynth.stages.finetune.output import AdapterJob
from fairsynth.stages.synthesize.output import ACCEPTED


def compare(
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    seen: Seen,
    jobs: Sequence[AdapterJob],
    texts: pa.Table,
    seed: int,
) -> dict[str, Any]:
    """Figures of groups, clusters and shortcuts. ``texts``: each group's prompt as CLIP sees it."""
    train, known, held_out = seen
    probe = seen.other_probe
    made = _images(rows, embeddings_ND, probe)
    kept = [i for i, row in enumerate(rows) if row["verdict"] == ACCEPTED]
    accepted = [rows[i] for i in kept]
    synthetic = _images(accepted, embeddings_ND[kept], probe)
    vectors_ND = held_out.embeddings_ND
    by_probe = seen.filter_probe.groups_of(vectors_ND)
    real = Images(vectors_ND, held_out.groups, by_probe, _zero_shot(texts, vectors_ND))
    place = {image: i for i, image in enumerate(train.ids)}
    learnt = {job.name: train.embeddings_ND[[place[i] for i in job.image_ids]] for job in jobs}
    owners = {job.name: job.group for job in jobs if job.kinds is None}
    others = {group: _of(known, group) for group in {*made.groups, *owners.values()}}
    figures = []
    for group in sorted(set(made.groups)):
        its = [accepted[i] for i in synthetic.of(group)]
        used = sorted({row[name] for row in its for name in ("adapter", "second_adapter")} & learnt.keys())
        # Of what all groups' adapter has learnt, the group's own images are those that it could repeat here.
        parts = [learnt[name] if name in owners else _of(train, group) for name in used]
        trained = np.concatenate(parts) if parts else train.embeddings_ND[:0]
        lender = owners.get(used[0], group) if used else group
        figures.append(
            group_figures(group, made, synthetic, real, others[group], trained, lender, others[lender], seed)
        )
    return {
        "groups": figures,
        "clusters": cluster_figures(accepted, synthetic, learnt, real, others, seed),
        "shortcuts": shortcuts(synthetic, accepted, real, seed),
    }


def _images(rows: Sequence[Mapping[str, Any]], embeddings_ND: NDArray[np.float32], probe: Probe) -> Images:
    """Synthetic images, and what probe and zero-shot CLIP see in them."""
    clip_can_tell = all(row["zero_shot_attribute"] is not None for row in rows)
    return Images(
        embeddings_ND,
        [Group(row["label"], row["attribute"]) for row in rows],
        probe.groups_of(embeddings_ND) if len(rows) else [],
        [Group(row["zero_shot_label"], row["zero_shot_attribute"]) for row in rows] if clip_can_tell else None,
    )


def _of(images: RealImages, group: Group) -> NDArray[np.float32]:
    """Embeddings of one group's images."""
    return images.embeddings_ND[[i for i, own in enumerate(images.groups) if own == group]]


def _zero_shot(table: pa.Table, embeddings_ND: NDArray[np.float32]) -> list[Group] | None:
    """The group whose prompt is most like each image; None where groups share a prompt."""
    if len(np.unique(matrix(table, "embedding"), axis=0)) < table.num_rows:
        return None
    groups = [Group(y, a) for y, a in zip(table["label"].to_pylist(), table["attribute"].to_pylist(), strict=True)]
    return [groups[i] for i in (embeddings_ND @ matrix(table, "embedding").T).argmax(1)]

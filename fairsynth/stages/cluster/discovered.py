"""Pseudo-attributes for a dataset without a named attribute: found, written, and compared with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairsynth.artifacts import write_json
from fairsynth.config import RunConfig
from fairsynth.data.vectors import matrix
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION, Manifest
from fairsynth.metrics import agreement
from fairsynth.stages.cluster.discover import discover
from fairsynth.stages.cluster.output import AGREEMENT, write_centres, write_discovered

# What is looked at of an image.
_READ = ("split", "label", "duplicate_of", "true_attribute")


def write_pseudo_attributes(config: RunConfig, ingested: Manifest, embeddings: pa.Table, folder: Path) -> list[str]:
    """Find pseudo-attributes from embeddings (image_id, embedding) of training images; assign them to validation too.

    Writes them into the cluster stage's folder, with their agreement with the true attribute where that is known;
    returns remarks.
    """
    rows = {row["image_id"]: row for row in ingested.rows("image_id", *_READ)}
    embeddings = embeddings.sort_by("image_id")
    ids, points_ND = embeddings.column("image_id").to_pylist(), matrix(embeddings, "embedding")
    labels = [rows[i]["label"] for i in ids]
    train = np.array([rows[i]["split"] == TRAIN for i in ids])
    centres = discover(
        [y for y, t in zip(labels, train, strict=True) if t],
        points_ND[train],
        config.data.discovered,
        config.cluster.restarts,
        config.seed,
    )
    assigned = dict(zip(ids, centres.assign(labels, points_ND), strict=True))
    assigned |= {i: assigned[first] for i, row in rows.items() if (first := row["duplicate_of"]) in assigned}
    write_discovered(assigned, folder)
    write_centres(centres, folder)
    remark = f"attributes are discovered ({config.data.discovered} kinds per label): worst-group accuracy is over these groups"
    assigned_rows = [rows[i] for i in assigned]
    return [
        remark,
        *_lacking(assigned_rows, list(assigned.values())),
        *_agreement(folder, assigned_rows, list(assigned.values())),
    ]


def _lacking(rows: Sequence[Mapping[str, Any]], values: Sequence[str]) -> list[str]:
    """Remarks on groups without validation images."""
    groups: dict[str, set[Group]] = {TRAIN: set(), VALIDATION: set()}
    for row, value in zip(rows, values, strict=True):
        groups[row["split"]].add(Group(row["label"], value))
    return [
        f"group {group} has no validation images: settings are chosen without it"
        for group in sorted(groups[TRAIN] - groups[VALIDATION])
    ]


def _agreement(folder: Path, rows: Sequence[Mapping[str, Any]], values: Sequence[str]) -> list[str]:
    """Compare pseudo-attributes of training and validation images with the true attribute, if the dataset has it."""
    pairs = [(row, value) for row, value in zip(rows, values, strict=True) if row["true_attribute"].strip()]
    if {row["split"] for row, _ in pairs} < {TRAIN, VALIDATION}:
        return []
    unknown = len(rows) - len(pairs)
    compared = {}
    for split in (TRAIN, VALIDATION):
        part = [(r["label"], value, r["true_attribute"]) for r, value in pairs if r["split"] == split]
        compared[split] = agreement(*map(list, zip(*part, strict=True)))
    write_json(folder / AGREEMENT, compared)
    left_out = [f"{unknown} images without a true attribute are left out of the comparison"] if unknown else []
    return left_out + [
        f"kinds and true attribute, label {entry['label']}: adjusted mutual information "
        f"{entry['adjusted_mutual_information']:.2f}, purity {entry['purity']:.0%} (training images)"
        for entry in compared[TRAIN]
    ]

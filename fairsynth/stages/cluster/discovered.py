"""Discovered attributes in the pipeline: found from training images, given to validation, and at the end to test images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, write_json
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.data.vectors import matrix, vectors
from fairsynth.engine.units import run_units
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION, Manifest
from fairsynth.stages.cluster import discover as stage
from fairsynth.stages.context import DISCOVERED, Context
from fairsynth.stages.embed import embedding as embed_stage

_KINDS = "kinds.parquet"


def discover(context: Context, folder: Path, embeddings: pa.Table) -> list[str]:
    """Find kinds from the embeddings (image_id, embedding) of training images, assign them to training and validation.

    Writes them into the cluster stage's folder, with their agreement with the true attribute where
    that is known; returns remarks.
    """
    config, rows = context.config, {row["image_id"]: row for row in context.ingested.rows()}
    embeddings = embeddings.sort_by("image_id")
    ids, points = embeddings.column("image_id").to_pylist(), matrix(embeddings, "embedding")
    labels = [rows[i]["label"] for i in ids]
    train = np.array([rows[i]["split"] == TRAIN for i in ids])
    found = stage.discover(
        [y for y, t in zip(labels, train, strict=True) if t],
        points[train],
        config.data.discovered,
        config.cluster.restarts,
        config.seed,
    )
    kinds = dict(zip(ids, found.assign(labels, points), strict=True))
    kinds |= {i: kinds[first] for i, row in rows.items() if (first := row["duplicate_of"]) in kinds}
    pq.write_table(pa.table({"image_id": list(kinds), "attribute": list(kinds.values())}), folder / DISCOVERED)
    table = [(label, centres) for label, centres in sorted(found.centres.items())]
    pq.write_table(
        pa.table(
            {
                "label": [label for label, centres in table for _ in centres],
                "centre": vectors(np.concatenate([centres for _, centres in table])),
            }
        ),
        folder / _KINDS,
    )
    remark = f"attributes are discovered ({config.data.discovered} kinds per label): worst-group accuracy is over these groups"
    found_in = {
        s: {(rows[i]["label"], k) for i, k in kinds.items() if rows[i]["split"] == s} for s in (TRAIN, VALIDATION)
    }
    lacking = [
        f"group {Group(*group)} has no validation images: settings are chosen without it"
        for group in sorted(found_in[TRAIN] - found_in[VALIDATION])
    ]
    return [remark, *lacking, *_agreement(folder, [rows[i] for i in kinds], list(kinds.values()))]


def _agreement(folder: Path, rows: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    """Compare training and validation kinds with the true attribute, if the dataset has it."""
    pairs = [(row, kind) for row, kind in zip(rows, kinds, strict=True) if row["true_attribute"].strip()]
    if {row["split"] for row, _ in pairs} < {TRAIN, VALIDATION}:
        return []
    unknown = len(rows) - len(pairs)
    found = {}
    for split in (TRAIN, VALIDATION):
        part = [(r["label"], k, r["true_attribute"]) for r, k in pairs if r["split"] == split]
        found[split] = stage.agreement(*map(list, zip(*part, strict=True)))
    write_json(folder / "agreement.json", found)
    left_out = [f"{unknown} images without a true attribute are left out of the comparison"] if unknown else []
    return left_out + [
        f"kinds and true attribute, label {entry['label']}: adjusted mutual information "
        f"{entry['adjusted_mutual_information']:.2f}, purity {entry['purity']:.0%} (training images)"
        for entry in found[TRAIN]
    ]


def with_test_kinds(context: Context, artifact: Artifact) -> Manifest:
    """The test split with kinds as attributes: test images are embedded here, for scoring alone, and go to the nearest centre."""
    test = context.manifest.split(TEST)
    plan = artifact.path / "plan-test.parquet"
    names = write_plan(plan, embed_stage.plan_rows(test.rows()), context.config.embed.unit_size, "kinds")
    decode = embed_stage.DecodeUnit(
        context.storage, PlanRows(plan), context.config.models.image_size, context.config.data.images
    )
    make = partial(
        embed_stage.EmbedUnit, context.config.models, posteriors=False, batch=context.config.resources.embed_batch
    )
    run_units(context.session, "evaluate", artifact.units(), names, make, decode)
    units = artifact.units()
    bad = pa.concat_tables([pq.read_table(units[name] / "bad.parquet") for name in names])
    pq.write_table(bad, artifact.path / "quarantine.parquet")
    if len(bad) > context.config.data.max_bad_fraction * len(test):
        raise DataError(
            f"{len(bad)} of {len(test)} test images have no usable embedding, more than data.max_bad_fraction "
            f"{context.config.data.max_bad_fraction:g} allows"
        )
    table = pq.read_table(embed_stage.with_embeddings(units[name] / "embeddings.parquet" for name in names))
    ids = table.column("image_id").to_pylist()
    labels = dict(zip(test.column("image_id"), test.column("label"), strict=True))
    found = _read_kinds(context.artifacts["cluster"].path)
    kinds = dict(zip(ids, found.assign([labels[i] for i in ids], matrix(table, "embedding")), strict=True))
    test = test.filter(i in kinds for i in test.column("image_id"))
    return test.replaced("attribute", [kinds[i] for i in test.column("image_id")])


def _read_kinds(folder: Path) -> stage.Discovered:
    table = pq.read_table(folder / _KINDS)
    labels, centres = np.array(table.column("label").to_pylist()), matrix(table, "centre")
    return stage.Discovered({str(label): centres[labels == label] for label in sorted(set(labels.tolist()))})

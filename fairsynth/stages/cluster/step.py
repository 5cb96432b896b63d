"""Stage cluster: clusters inside each group of the training split, after discovering the attribute where asked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION, Manifest
from fairsynth.stages.cluster.output import CLUSTERS, recognised_facts, with_discovered
from fairsynth.stages.context import Context
from fairsynth.stages.embed.output import by_group, embedding_files, judged_probe, probe_images
from fairsynth.stages.stage import Made
from fairsynth.work import Ran

VERSION = 1
_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("label", pa.string()), ("attribute", pa.string()), ("cluster", pa.int64())]
)


def artifact(context: Context) -> Artifact:
    """Named by the embeddings, the settings and the seed."""
    config, data = context.config.cluster, context.config.data
    asked = config.model_dump() | {"seed": context.config.seed}
    asked |= {"discovered": data.discovered} if data.attribute == "discover" else {}
    return context.artifact("cluster", VERSION, ("embed", "ingest"), asked)


def make(context: Context, artifact: Artifact) -> Made:
    """Cluster every group; a group's clusters do not depend on the others."""
    manifest, remarks = _manifest(context, artifact)
    clusters, facts, images = _clustered(context, manifest)
    pq.write_table(clusters, artifact.path / CLUSTERS)
    # A rule's change against the config is news; the choice of auto is not.
    remarks += [f"group {g}: {f['remark']}" for g, f in facts if f["remark"] and not f["remark"].startswith("auto")]
    k = enumerated(f"{group} {fact['k']}" for group, fact in facts)
    counts = Counts(images, len(clusters), 0, images - len(clusters))
    found: dict[str, Any] = {"groups": {group.slug: fact for group, fact in facts}, "remarks": remarks}
    # Finetune asks before it trains: groups that the filter will not be able to judge get no adapter.
    train, validation = (probe_images(context.artifacts["embed"], manifest, split) for split in (TRAIN, VALIDATION))
    known, learnt = judged_probe(train, validation).recognised, {*train.groups}
    found["recognised"] = recognised_facts({group: its for group, its in known.items() if group in learnt})
    return Made(counts, f"clusters: {k}", Ran(len(facts)), facts=found)


def _manifest(context: Context, artifact: Artifact) -> tuple[Manifest, list[str]]:
    """The images with their attributes, which are discovered here if nobody knows them; and remarks."""
    if context.config.data.attribute != "discover":
        return context.ingested, []
    from fairsynth.stages.cluster.discovered import write_pseudo_attributes

    table = pq.read_table(embedding_files(context.artifacts["embed"]), columns=["image_id", "embedding"])
    remarks = write_pseudo_attributes(context.config, context.ingested, table, artifact.path)
    return with_discovered(context.ingested, artifact.path), remarks


def _clustered(context: Context, manifest: Manifest) -> tuple[pa.Table, list[tuple[Group, dict[str, Any]]], int]:
    """A row for each image with a cluster, by image_id; for each group k and remark; and the number of images."""
    from fairsynth.stages.cluster.kmeans import cluster_group  # scikit-learn and FAISS: seconds

    config, seed = context.config.cluster, context.config.seed
    parts, facts, images = [_SCHEMA.empty_table()], [], 0
    for group, ids, embeddings_ND in by_group(context.artifacts["embed"], manifest):
        result = cluster_group(config, group, ids, embeddings_ND, seed)
        n, images = len(result.assignment), images + len(ids)
        columns = [[*result.assignment], [group.label] * n, [group.attribute] * n, [*result.assignment.values()]]
        parts.append(pa.table(columns, _SCHEMA))
        facts.append((group, {"k": result.k, "remark": result.remark}))
    return pa.concat_tables(parts).sort_by("image_id").combine_chunks(), facts, images

"""Steps ingest, embed and cluster: from a dataset to clusters inside each group."""

from __future__ import annotations

import hashlib
import warnings
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.engine.units import Ran, run_units
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.models.sources import check_sources
from fairsynth.stages import embed as embed_stage
from fairsynth.stages import ingest as ingest_stage
from fairsynth.steps.context import Context, Done, Stopwatch, found
from fairsynth.vectors import matrix


def ingest(context: Context) -> Done:
    """Read and check the dataset; the demo dataset is written first."""
    data, root = context.config.data, context.data_root
    check_sources(context.config.models, context.config.classify)
    if data.format == "demo":
        from fairsynth.demo import dataset

        if context.lookup_only and not root.exists():
            return Done(context.artifact("ingest", ingest_stage.VERSION, (), {}, files="not there yet"))
        root.parent.mkdir(parents=True, exist_ok=True)
        dataset.write(root, data.severity, context.config.seed)
        data = data.model_copy(update={"root": str(root), "format": "folder"})
    entries = ingest_stage.read_entries(data)
    files = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.path):
        # Size and time stand for the content until it is read; a touched file is simply read again.
        try:
            stat = (root / entry.path).stat()
        except OSError:
            stat = None
        files.update(
            f"{entry}|{stat and stat.st_size}|{stat and stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    artifact = context.artifact(
        "ingest", ingest_stage.VERSION, (), {"max_bad_fraction": data.max_bad_fraction}, files=files.hexdigest()
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    # What Pillow finds odd but readable is no news to the user.
    warnings.filterwarnings("ignore", module="PIL")
    result = ingest_stage.ingest(data, root)
    result.manifest.write(folder / "manifest.parquet")
    pq.write_table(result.quarantine, folder / "quarantine.parquet")
    counts = result.counts
    summary = f"{counts.used} images in {len(result.manifest.counts())} groups, {counts.quarantined} quarantined"
    return watch.finish(counts, Ran(counts.used, 0, 0.0), summary, digest=result.manifest.digest())


def embed(context: Context) -> Done:
    """CLIP vectors and VAE posteriors of the training images."""
    config = context.config
    artifact = context.artifact(
        "embed", embed_stage.VERSION, ("ingest",), config.embed.model_dump(), **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    train = context.manifest.split(TRAIN)
    units = embed_stage.unit_rows(train.rows(), config.embed.unit_size)
    decode = embed_stage.DecodeUnit(context.data_root, units, config.models.image_size)
    ran = run_units(
        context.session, "embed", artifact.units(), list(units), partial(embed_stage.EmbedUnit, config.models), decode
    )
    done = artifact.units()
    bad = pa.concat_tables([pq.read_table(done[name] / "bad.parquet") for name in units])
    pq.write_table(bad, folder / "quarantine.parquet")
    embedded = len(train) - len(bad)
    counts = Counts(len(context.manifest), embedded, len(bad), len(context.manifest) - len(train))
    return watch.finish(counts, ran, f"{embedded} training images")


def embedding_files(artifact: Artifact) -> list[str]:
    """The Parquet files of an embed artifact, in order."""
    return [str(artifact.units()[name] / "embeddings.parquet") for name in sorted(artifact.units().done())]


def read_embeddings(context: Context) -> tuple[list[str], list[Group], pa.Table]:
    """Ids, groups and table (image_id, embedding) of the embedded training images."""
    table = pq.read_table(embedding_files(context.artifacts["embed"]), columns=["image_id", "embedding"])
    groups = dict(zip(context.manifest.column("image_id"), context.manifest.groups(), strict=True))
    ids = table.column("image_id").to_pylist()
    return ids, [groups[i] for i in ids], table


def cluster(context: Context) -> Done:
    """Clusters inside each group of the training split."""
    from fairsynth.stages import cluster as stage

    config = context.config.cluster
    artifact = context.artifact(
        "cluster", stage.VERSION, ("embed", "ingest"), config.model_dump() | {"seed": context.config.seed}
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    ids, groups, table = read_embeddings(context)
    vectors, rows, facts = matrix(table, "embedding"), [], {}
    for group in sorted(set(groups)):
        members = [i for i, g in enumerate(groups) if g == group]
        result = stage.cluster_group(config, group, [ids[i] for i in members], vectors[members], context.config.seed)
        rows += [
            {"image_id": i, "label": group.label, "attribute": group.attribute, "cluster": c}
            for i, c in result.assignment.items()
        ]
        facts[group.slug] = {"k": result.k, "remark": result.remark}
    schema = pa.schema(
        [("image_id", pa.string()), ("label", pa.string()), ("attribute", pa.string()), ("cluster", pa.int64())]
    )
    rows.sort(key=lambda row: str(row["image_id"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "clusters.parquet")
    k = ", ".join(f"{group} {facts[group.slug]['k']}" for group in sorted(set(groups)))
    counts = Counts(len(ids), len(rows), 0, len(ids) - len(rows))
    return watch.finish(counts, Ran(len(facts), 0, 0.0), f"clusters: {k}", groups=facts)

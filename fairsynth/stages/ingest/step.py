"""Steps ingest, embed and cluster: from a dataset to clusters inside each group."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, fingerprint
from fairsynth.config import DataConfig
from fairsynth.data.dataset import load
from fairsynth.data.location import container
from fairsynth.data.reading import Aside, Reading
from fairsynth.data.severity import Level, at_severity
from fairsynth.data.unit_rows import PlanRows, write_plan, write_plans
from fairsynth.data.vectors import matrix
from fairsynth.engine.units import Ran, run_local, run_units
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.models.sources import check_sources
from fairsynth.stages.cluster.discovered import discover
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.embed import embedding as embed_stage
from fairsynth.stages.ingest import settle as stage
from fairsynth.stages.ingest.content import CheckImages

INGEST_UNIT = 512
FEW = 4096  # so many images are checked before Ray has started


def ingest(context: Context) -> Done:
    """Read and check the dataset; the demo dataset is written first."""
    config = context.config
    check_sources(config.models, config.classify)
    data = _demo(context) if config.data.format == "demo" else config.data
    if data is None:
        return Done(context.artifact("ingest", stage.VERSION, (), {}, files="not there yet"))
    reading = context.reading or load(data, context.storage)
    remarks, level, reading = _at_level(data, reading, stage.check_groups(reading.entries, data))
    artifact = context.artifact("ingest", stage.VERSION, (), _asked(data), files=_stamp(context, reading))
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    ran = _check_files(context, artifact, reading)
    units = artifact.units()
    checked = pa.concat_tables([pq.read_table(units[name] / "checked.parquet") for name in sorted(units.done())])
    settled = stage.settle(data, reading, checked)
    settled.manifest.write(folder / "manifest.parquet")
    for name, asides in (("quarantine", settled.quarantined), ("excluded", settled.excluded)):
        pq.write_table(stage.aside_table(asides), folder / f"{name}.parquet")
    if level:
        (folder / "kept_ids.txt").write_text("".join(f"{i}\n" for i in level.kept_ids))
    counts = settled.counts
    summary = f"{counts.used} images in {len(settled.manifest.counts())} groups, {counts.quarantined} quarantined"
    return watch.finish(
        counts,
        ran,
        summary + (f", {counts.excluded} excluded" if counts.excluded else ""),
        # How images become RGB shows in every later stage, too.
        digest=fingerprint({"images": settled.manifest.digest(), "rules": data.images.model_dump()}),
        reasons=settled.reasons,
        severity=level.record if level else None,
        remarks=[*remarks, *settled.remarks, *_reason_lines(settled.reasons)],
    )


def _demo(context: Context) -> DataConfig | None:
    """Write the demo dataset; None if it is only asked after and not there."""
    from fairsynth.demo import dataset

    root = context.demo_root
    if context.lookup_only and not root.exists():
        return None
    root.parent.mkdir(parents=True, exist_ok=True)
    dataset.write(root, context.demo_severity, context.config.seed)
    return context.config.data.model_copy(update={"root": str(root), "format": "folder"})


def _at_level(data: DataConfig, reading: Reading, remarks: list[str]) -> tuple[list[str], Level | None, Reading]:
    """The dataset at the asked severity; what goes is excluded with that reason."""
    if data.severity is None:
        return remarks, None, reading
    level = at_severity(reading.entries, data.severity, data.severity_seed, data.aligned, data.severity_validation)
    gone = [Aside(entry.path, "severity") for entry in level.removed]
    less = Reading(level.kept, reading.quarantined, [*reading.excluded, *gone], reading.remarks)
    return stage.check_groups(level.kept, data), level, less


def _asked(data: DataConfig) -> dict[str, Any]:
    """What the manifest depends on besides the files: where they are and what values are called is not in it."""
    without = {"root", "label_names", "attribute_names", "discovered"}
    return data.model_dump(
        exclude=without | ({"severity_seed", "severity_validation", "aligned"} if data.severity is None else set())
    )


def _stamp(context: Context, reading: Reading) -> str:
    """Hash of the metadata and of every file's size and time, which stand for its content until it is read."""
    containers = {container(entry.path, entry.location) for entry in reading.entries}
    stamps, files = context.storage.stamp(containers), hashlib.sha256()
    for entry in sorted(reading.entries):
        stamp = stamps[container(entry.path, entry.location)]
        files.update(f"{tuple(entry)}|{stamp}\n".encode("utf-8", "surrogateescape"))
    for aside in sorted([*reading.quarantined, *reading.excluded]):
        files.update(f"{tuple(aside)}\n".encode("utf-8", "surrogateescape"))
    return files.hexdigest()


def _check_files(context: Context, artifact: Artifact, reading: Reading) -> Ran:
    """Every image read and decoded once: in this process if they are few, else on all CPUs."""
    plan, rows = artifact.path / "plan.parquet", sorted((entry.path, entry.location) for entry in reading.entries)
    table = pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], ["path", "location"])
    names = write_plan(plan, table, INGEST_UNIT, "files")
    make = partial(CheckImages, context.storage, context.config.data.images)
    if len(rows) <= FEW:
        before = len(artifact.units().done())
        run_local(artifact.units(), names, make, PlanRows(plan))
        return Ran(len(names) - before, before, 0.0)
    return run_units(context.session, "ingest", artifact.units(), names, make, PlanRows(plan), models=False)


def _reason_lines(reasons: dict[str, dict[str, int]]) -> list[str]:
    return [f"{what}: {', '.join(f'{r} {n}' for r, n in counts.items())}" for what, counts in reasons.items() if counts]


def embed(context: Context) -> Done:
    """CLIP vectors of training and validation images, VAE posteriors of the training images."""
    config = context.config
    artifact = context.artifact(
        "embed", embed_stage.VERSION, ("ingest",), config.embed.model_dump(), **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    wanted = [row for row in context.ingested.rows() if row["split"] != TEST and not row["duplicate_of"]]
    parts = {
        prefix: embed_stage.plan_rows(row for row in wanted if row["split"] == split)
        for prefix, split in (("images", TRAIN), (embed_stage.HELD_OUT, VALIDATION))
    }
    names = write_plans(folder / "plan.parquet", parts, config.embed.unit_size)
    decode = embed_stage.DecodeUnit(
        context.storage, PlanRows(folder / "plan.parquet"), config.models.image_size, config.data.images
    )
    make = partial(embed_stage.EmbedUnit, config.models, batch=config.resources.embed_batch)
    ran = run_units(context.session, "embed", artifact.units(), names, make, decode)
    done = artifact.units()
    bad = pa.concat_tables([pq.read_table(done[name] / "bad.parquet") for name in names])
    pq.write_table(bad, folder / "quarantine.parquet")
    if len(bad) > config.data.max_bad_fraction * len(wanted):
        reasons = ", ".join(f"{r} {n}" for r, n in Counter(bad.column("reason").to_pylist()).most_common())
        raise DataError(
            f"{len(bad)} of {len(wanted)} images cannot be embedded ({reasons}), more than data.max_bad_fraction "
            f"{config.data.max_bad_fraction:g} allows; bad_embedding speaks against models.clip or models.dtype"
        )
    embedded, everything = len(wanted) - len(bad), len(context.ingested)
    counts = Counts(everything, embedded, len(bad), everything - len(wanted))
    return watch.finish(counts, ran, f"{embedded} training and validation images")


def embedding_files(artifact: Artifact) -> list[str]:
    """The Parquet files of an embed artifact that hold embeddings, in order."""
    units = artifact.units()
    return embed_stage.with_embeddings(units[name] / "embeddings.parquet" for name in sorted(units.done()))


def read_embeddings(context: Context) -> tuple[list[str], list[Group], pa.Table]:
    """Ids, groups and table (image_id, embedding) of the embedded training images."""
    table = pq.read_table(embedding_files(context.artifacts["embed"]), columns=["image_id", "embedding"])
    train = context.manifest.split(TRAIN)
    groups = dict(zip(train.column("image_id"), train.groups(), strict=True))
    table = table.filter(pa.array([i in groups for i in table.column("image_id").to_pylist()], pa.bool_()))
    ids = table.column("image_id").to_pylist()
    return ids, [groups[i] for i in ids], table


def cluster(context: Context) -> Done:
    """Clusters inside each group of the training split; where asked, the attribute is discovered before."""
    from fairsynth.stages.cluster import kmeans as cluster_stage

    config, data = context.config.cluster, context.config.data
    asked = config.model_dump() | {"seed": context.config.seed}
    asked |= {"discovered": data.discovered} if data.attribute == "discover" else {}
    artifact = context.artifact("cluster", cluster_stage.VERSION, ("embed", "ingest"), asked)
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    remarks = []
    if data.attribute == "discover":
        columns = ["image_id", "embedding"]
        remarks = discover(context, folder, pq.read_table(embedding_files(context.artifacts["embed"]), columns=columns))
        context.artifacts["cluster"] = artifact
    ids, groups, table = read_embeddings(context)
    vectors, rows, facts = matrix(table, "embedding"), [], {}
    for group in sorted(set(groups)):
        members = [i for i, g in enumerate(groups) if g == group]
        result = cluster_stage.cluster_group(
            config, group, [ids[i] for i in members], vectors[members], context.config.seed
        )
        rows += [
            {"image_id": i, "label": group.label, "attribute": group.attribute, "cluster": c}
            for i, c in result.assignment.items()
        ]
        facts[group.slug] = {"k": result.k, "remark": result.remark}
        # What a rule did against the config is news; what auto chose is not.
        remarks += [f"group {group}: {result.remark}"] if result.remark and not result.remark.startswith("auto") else []
    schema = pa.schema(
        [("image_id", pa.string()), ("label", pa.string()), ("attribute", pa.string()), ("cluster", pa.int64())]
    )
    rows.sort(key=lambda row: str(row["image_id"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "clusters.parquet")
    k = ", ".join(f"{group} {facts[group.slug]['k']}" for group in sorted(set(groups)))
    counts = Counts(len(ids), len(rows), 0, len(ids) - len(rows))
    return watch.finish(counts, Ran(len(facts), 0, 0.0), f"clusters: {k}", groups=facts, remarks=remarks)

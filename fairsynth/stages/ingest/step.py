"""Stage ingest: from a dataset's folder to a checked manifest; writes the built-in dataset before."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, fingerprint, write_json
from fairsynth.config import DataConfig, ImageRules
from fairsynth.data.layout import not_named
from fairsynth.data.location import container
from fairsynth.data.metadata import Metadata
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.demo.place import write_demo
from fairsynth.escaping import enumerated
from fairsynth.models.hub.check import check_sources
from fairsynth.prompts import wordless
from fairsynth.stages.context import Context
from fairsynth.stages.ingest.content import CheckImages
from fairsynth.stages.ingest.decide import VERSION, Decided, check_groups, decide_manifest, set_aside_table
from fairsynth.stages.stage import Made
from fairsynth.work import Ran, run_local

INGEST_UNIT = 512
FEW = 4096  # up to this many images, checking takes less time than starting Ray


def before(context: Context) -> None:
    """Check that the models exist, then write the built-in dataset, if it is the one to read.

    Raises ConfigError for models that do not exist.
    """
    check_sources(context.config.models, context.config.classify)
    if context.config.data.format == "demo":
        write_demo(context.root, context.config)


def artifact(context: Context) -> Artifact:
    """Named by the metadata and by every file's size and time.

    Raises ConfigError for missing models, and DataError for groups that cannot be learnt.
    """
    check_sources(context.config.models, context.config.classify)
    if context.config.data.format == "demo" and not context.demo_root.exists():
        return context.artifact("ingest", VERSION, (), {}, files="not there yet")
    dataset = context.dataset
    check_groups(dataset.metadata.entries, dataset.config)
    level, metadata = dataset.levelled
    if level:
        check_groups(metadata.entries, dataset.config)
    return context.artifact("ingest", VERSION, (), _asked(dataset.config), files=_stamp(context, metadata))


def make(context: Context, artifact: Artifact) -> Made:
    """Read and check every image, decide what is used, and write the manifest and what was set aside."""
    dataset = context.dataset
    level, metadata = dataset.levelled
    remarks = check_groups(metadata.entries, dataset.config)
    ran = _check_files(context, artifact, metadata)
    units = artifact.units()
    names = sorted(units.done())
    units.here(names)
    checked = pa.concat_tables([pq.read_table(units[name] / "checked.parquet") for name in names])
    unnamed = not_named(dataset.storage, metadata)
    decided = decide_manifest(dataset.config, metadata, checked, unnamed)
    _write(artifact, decided)
    write_json(artifact.path / "not_named.json", unnamed)
    if level:
        (artifact.path / "kept_ids.txt").write_text("".join(f"{i}\n" for i in level.kept_ids), "utf-8")
    return Made(
        decided.counts,
        _summary(decided),
        ran,
        # How images become RGB shows in every later stage, too.
        fingerprint({"images": decided.manifest.digest(), "rules": _looks(dataset.config.images)}),
        {
            "reasons": decided.reasons,
            "severity": level.record if level else None,
            "not_named": len(unnamed),
            # For cards alone: what is known of a layout's terms. The built-in dataset is read as a folder.
            "layout": "demo" if context.config.data.format == "demo" else dataset.layout,
            "remarks": [
                *remarks,
                *(level.coarse if level else ()),
                *decided.remarks,
                *_reason_lines(decided.reasons),
                *_not_named(unnamed, artifact),
                *wordless(context.config.synthesize.prompt, dataset.config, decided.manifest.counts()),
            ],
        },
    )


def _write(artifact: Artifact, decided: Decided) -> None:
    decided.manifest.write(artifact.path / "manifest.parquet")
    for name, set_aside in (("quarantine", decided.quarantined), ("excluded", decided.excluded)):
        pq.write_table(set_aside_table(set_aside), artifact.path / f"{name}.parquet")


def _summary(decided: Decided) -> str:
    counts, groups = decided.counts, len(decided.manifest.counts())
    text = f"{counts.used} images in {groups} groups, {counts.quarantined} quarantined"
    return text + (f", {counts.excluded} excluded" if counts.excluded else "")


def _asked(data: DataConfig) -> dict[str, Any]:
    """The settings that the manifest depends on besides the files: not their place, nor the words for values."""
    without = {"root", "label_names", "attribute_names", "discovered"}
    asked = data.model_dump(
        exclude=without | ({"severity_seed", "severity_validation", "aligned"} if data.severity is None else set())
    )
    if data.images.max_bytes == ImageRules().max_bytes:  # what was ingested before there was a limit stays as it is
        asked["images"] = _looks(data.images)
    return asked


def _looks(rules: ImageRules) -> dict[str, Any]:
    """The rules by which an image becomes pixels; how many bytes its file may have is none of them."""
    return rules.model_dump(exclude={"max_bytes"})


def _stamp(context: Context, metadata: Metadata) -> str:
    """Hash of the metadata and of every file's size and time, which stand for its content until it is read."""
    containers = {container(entry.path, entry.location) for entry in metadata.entries}
    stamps, files = context.dataset.storage.stamp(containers), hashlib.sha256()
    for entry in sorted(metadata.entries):
        stamp = stamps[container(entry.path, entry.location)]
        files.update(f"{tuple(entry)}|{stamp}\n".encode("utf-8", "surrogateescape"))
    for image in sorted([*metadata.quarantined, *metadata.excluded]):
        files.update(f"{tuple(image)}\n".encode("utf-8", "surrogateescape"))
    return files.hexdigest()


def _check_files(context: Context, artifact: Artifact, metadata: Metadata) -> Ran:
    """Read and decode every image once: in this process if they are few, else on all CPUs."""
    plan, rows = artifact.path / "plan.parquet", sorted((entry.path, entry.location) for entry in metadata.entries)
    table = pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], ["path", "location"])
    names = write_plan(plan, table, INGEST_UNIT, "files")
    make = partial(CheckImages, context.dataset.storage, context.dataset.config.images)
    if len(rows) <= FEW:
        return run_local(artifact.units(), names, make, PlanRows(plan))
    return context.run_units(artifact, names, make, PlanRows(plan), models=False)


def _not_named(paths: list[str], artifact: Artifact) -> list[str]:
    where = f"listed in {artifact.path / 'not_named.json'}"
    return (
        [f"{len(paths)} image files are not named by the metadata: {enumerated(paths, most=3)} ({where})"]
        if paths
        else []
    )


def _reason_lines(reasons: dict[str, dict[str, int]]) -> list[str]:
    return [f"{what}: {', '.join(f'{r} {n}' for r, n in counts.items())}" for what, counts in reasons.items() if counts]

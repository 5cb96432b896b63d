"""Step synthesize: from adapters to a group-balanced set, planned, generated, filtered."""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.engine.units import Ran, run_units
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.prompts import fill
from fairsynth.stages import synthesize as stage
from fairsynth.stages.synthesize import Source
from fairsynth.steps.context import Context, Done, Stopwatch, found
from fairsynth.steps.finetune import adapter_units, words
from fairsynth.steps.prepare import read_embeddings
from fairsynth.steps.views import inert, new_folder, publish, shows
from fairsynth.vectors import matrix

_ABSENT = "no training images: nothing to learn it from (synthesize.absent_groups decides)"


def synthesize(context: Context) -> Done:
    """Plan, generate, filter; again for what is missing, until every quota holds or the rounds are used up."""
    config = context.config
    recipe = {
        "synthesize": config.synthesize.model_dump(),
        "filter": config.filter.model_dump(),
        "seed": config.seed,
    } | words(context)
    artifact = context.artifact(
        "synthesize", stage.VERSION, ("finetune", "embed", "ingest"), recipe, **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only and not shows(context.root / "synthetic", artifact):
            made_before = pq.read_table(artifact.path / "synthetic.parquet").to_pylist()
            _export(context, artifact, made_before, artifact.record["suffix"])
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    quota = stage.quotas(_groups_to_make(context), config.synthesize.per_group)
    sources, made = _sources(context, quota), _Maker(context, artifact, quota)
    needed = {group: stage.candidates_needed(n, config.filter.keep) for group, n in quota.items()}
    images: list[dict[str, Any]] = []
    for round_index in range(config.filter.max_rounds):
        images += made.round(needed, sources, round_index)
        verdicts = stage.select(images, quota, config.filter.keep)
        lacking = stage.missing(images, verdicts, quota)
        needed = {group: stage.candidates_needed(n, config.filter.keep) for group, n in lacking.items()}
        if not needed:
            break
    for row in images:
        row["verdict"], row["reason"] = (
            ("accepted", "") if verdicts[row["image_id"]] == "accepted" else ("rejected", verdicts[row["image_id"]])
        )
    images.sort(key=lambda row: row["image_id"])
    pq.write_table(pa.Table.from_pylist(images), folder / "synthetic.parquet")
    _export(context, artifact, images, made.suffix)
    accepted = sum(row["verdict"] == "accepted" for row in images)
    shortfall = "" if not lacking else "; SHORTFALL " + ", ".join(f"{group} lacks {n}" for group, n in lacking.items())
    return watch.finish(
        Counts(len(images), accepted, 0, len(images) - accepted),
        made.ran,
        f"{accepted} images kept of {len(images)}{shortfall}",
        suffix=made.suffix,
        groups=_group_facts(context, images, quota, sources),
    )


def _groups_to_make(context: Context) -> Counter[Group]:
    """Training images per group that is to be made; groups without any only if they are asked for."""
    counts = context.manifest.split(TRAIN).counts()
    if context.config.synthesize.absent_groups == "prompt":
        for group in _all_groups(context):
            counts.setdefault(group, 0)
    return counts


def _all_groups(context: Context) -> list[Group]:
    labels, attributes = context.group_names
    return [Group(label, attribute) for label in labels for attribute in attributes]


def _sources(context: Context, quota: dict[Group, int]) -> dict[Group, list[Source]]:
    """How each group's images are made: its own adapters in proportion to their images, or the base model."""
    config = context.config
    sources: dict[Group, list[Source]] = {group: [] for group in quota}
    for facts in adapter_units(context.artifacts["finetune"]):
        if facts["failed"]:
            continue
        sources[Group(facts["label"], facts["attribute"])].append(
            Source(facts["name"], facts["cluster"], facts["prompt"], facts["images"])
        )
    for group, found_sources in sources.items():
        if not found_sources:
            found_sources.append(Source(None, 0, fill(config.synthesize.prompt, config.data, group), 1))
    return sources


class _Maker:
    """Generates rounds of images and keeps count of what was made and what was found."""

    def __init__(self, context: Context, artifact: Artifact, quota: dict[Group, int]) -> None:
        self.context, self.artifact, self.ran = context, artifact, Ran(0, 0, 0.0)
        train = context.manifest.split(TRAIN)
        # By content, for a name may say otherwise or have no ending at all.
        formats = Counter(train.column("format"))
        self.suffix = ".jpg" if 2 * formats["JPEG"] > len(train) else ".png"
        _, groups, table = read_embeddings(context)
        self.centroids = stage.centroids(groups, matrix(table, "embedding"))
        self.texts = {group: fill(context.config.synthesize.prompt, context.config.data, group) for group in quota}

    def round(self, needed: dict[Group, int], sources: dict[Group, list[Source]], index: int) -> list[dict[str, Any]]:
        """Plan and make one round; returns its rows without the files."""
        config, artifact = self.context.config, self.artifact
        rows = stage.plan_rows(needed, sources, config.synthesize, config.seed, index)
        plan = artifact.path / f"plan-{index}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=stage.plan_schema()), plan)
        names = list(dict.fromkeys(row["unit"] for row in rows))
        make = partial(
            stage.GenerateUnit,
            config.models,
            config.synthesize,
            config.filter,
            plan,
            self.context.artifacts["finetune"].units().path,
            self.texts,
            self.centroids,
            self.suffix,
        )
        ran = run_units(self.context.session, "synthesize", artifact.units(), names, make)
        self.ran = Ran(
            self.ran.made + ran.made, self.ran.cached + ran.cached, self.ran.startup_seconds + ran.startup_seconds
        )
        columns = [name for name in stage.image_schema(stage.plan_schema()).names if name != "file"]
        return [
            row
            for name in names
            for row in pq.read_table(artifact.units()[name] / "images.parquet", columns=columns).to_pylist()
        ]


def read_files(artifact: Artifact, rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The encoded files of some synthetic images, by image_id."""
    wanted = {row["image_id"] for row in rows}
    files: dict[str, bytes] = {}
    for name in sorted({row["unit"] for row in rows}):
        table = pq.read_table(artifact.units()[name] / "images.parquet", columns=["image_id", "file"])
        files |= {
            i: f for i, f in zip(table["image_id"].to_pylist(), table["file"].to_pylist(), strict=True) if i in wanted
        }
    return files


def _export(context: Context, artifact: Artifact, images: list[dict[str, Any]], suffix: str) -> None:
    """The accepted images as a Hugging Face imagefolder: synthetic/metadata.csv beside the files."""
    kept = [row for row in images if row["verdict"] == "accepted"]
    files, view = read_files(artifact, kept), new_folder(context.root / "synthetic")
    columns = [
        "label",
        "attribute",
        "adapter",
        "cluster",
        "prompt",
        "negative_prompt",
        "seed",
        "text_score",
        "centroid_score",
        "score",
        "sha256",
    ]
    with open(view / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["file_name", "is_synthetic", *columns])
        for row in kept:
            slug = Group(row["label"], row["attribute"]).slug
            name = f"images/{slug}/{row['image_id']}{suffix}"
            (view / "images" / slug).mkdir(parents=True, exist_ok=True)
            (view / name).write_bytes(files[row["image_id"]])
            table.writerow([name, "true", *(inert(row[column]) for column in columns)])
    publish(view, context.root / "synthetic", artifact)


def _group_facts(
    context: Context, images: list[dict[str, Any]], quota: dict[Group, int], sources: dict[Group, list[Source]]
) -> list[dict[str, Any]]:
    """What report.json says of each group."""
    real, remarks, facts = context.manifest.split(TRAIN).counts(), context.artifacts["cluster"].record["groups"], []
    for group in sorted({*quota, *_all_groups(context)}):
        rows = [row for row in images if (row["label"], row["attribute"]) == group]
        accepted = sum(row["verdict"] == "accepted" for row in rows)
        own = bool(sources.get(group)) and sources[group][0].adapter is not None
        facts.append(
            {
                "label": group.label,
                "attribute": group.attribute,
                "real": real[group],
                "synthetic": accepted,
                "generator": "own" if own else "prompt" if group in quota else "none",
                "k": len(sources[group]) if own else 0,
                "accepted": accepted,
                "quota": quota.get(group, 0),
                "rejected": dict(Counter(row["reason"] for row in rows if row["verdict"] == "rejected")),
                "remark": remarks.get(group.slug, {}).get("remark", "") or (_ABSENT if not real[group] else ""),
            }
        )
    return facts

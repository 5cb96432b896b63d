"""The view of the synthetic set: ``<out>/synthetic``, a Hugging Face imagefolder with its cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, write_json
from fairsynth.config import RunConfig
from fairsynth.exports.base_facts import base_facts
from fairsynth.exports.croissant import croissant
from fairsynth.exports.dataset_card import Layout, dataset_card
from fairsynth.exports.formats import write_folder
from fairsynth.exports.set_facts import GroupFacts, SetFacts
from fairsynth.groups import Group
from fairsynth.models.sources import public_name
from fairsynth.run_folder.files import read_text, write_text
from fairsynth.stages.context import Context
from fairsynth.stages.synthesize.codec import codec_of
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, accepted, group_records
from fairsynth.stages.views import is_current, new_folder, publish
from fairsynth.store.mirror import newest, sent


def show(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Lay out the accepted images of a finished synthesize stage, with their cards, unless the view is current."""
    if not fresh and is_current(context.root / "synthetic", artifact):
        return
    view = new_folder(context.root / "synthetic")
    write_folder(view, accepted(artifact), codec_of(artifact).suffix)
    write_cards(context, artifact, view, None)
    publish(view, context.root / "synthetic", artifact)


def show_audit(context: Context, artifact: Artifact, privacy: Mapping[str, Any] | None) -> None:
    """Write the audit's findings on copies of training images into the set's cards, unless they have them."""
    folder = context.root / "synthetic"
    show(context, artifact, fresh=False)  # the view may be missing, or of another config's run
    card = dataset_card(set_facts(context, artifact, privacy), "folder")
    if read_text(newest(folder / "README.md")) != card:
        newest(folder / "metadata.csv")  # the cards tell of it
        write_cards(context, artifact, folder, privacy)
        for name in ("croissant.json", "README.md"):
            sent(folder / name)


def write_cards(
    context: Context,
    artifact: Artifact,
    folder: Path,
    privacy: Mapping[str, Any] | None,
    layout: Layout = "folder",
) -> None:
    """Write README.md into the folder of a set, and croissant.json into that of an image folder."""
    facts = set_facts(context, artifact, privacy)
    if layout == "folder":
        write_json(folder / "croissant.json", croissant(facts, folder, pq.read_schema(artifact.path / TABLE)))
    # Last: this card is the one that is checked for being current.
    write_text(folder / "README.md", dataset_card(facts, layout))


def set_facts(context: Context, artifact: Artifact, privacy: Mapping[str, Any] | None) -> SetFacts:
    """The facts of the set; ``privacy``: the audit's figures, None where privacy was not measured."""
    config, base = context.config, base_facts(context.config)
    codec, identity = codec_of(artifact), context.model_identity
    groups = _groups(artifact)
    keep = f"the best {config.filter.keep:.0%} of each group's images by CLIP score (arXiv 2511.08711), without those"
    return SetFacts(
        name=f"Synthetic images for {_source(context)}",
        version=artifact.fingerprint,
        groups=groups,
        source_dataset=_source(context),
        diffusion=public_name(config.models.diffusion),
        diffusion_revision=identity["diffusion"],
        clip=public_name(config.models.clip),
        clip_revision=identity["clip"],
        image_size=config.models.image_size,
        side=codec.side,
        file_format=codec.format,
        scheduler=base.scheduler,
        steps=config.synthesize.steps,
        guidance_until=config.synthesize.guidance_until,
        seed=config.seed,
        filter=f"{keep} that were unusable, showed another group, or repeated an image",
        finetune=_finetune(context.config, shared=any(group.generator == "shared" for group in groups)),
        dtype=config.models.dtype,
        inherits=(base.terms,),
        pipeline=base.pipeline,
        guidance_option=base.guidance,
        negative_option=base.negative,
        call_options=base.options,
        tag=base.tag,
        audit=privacy,
        shaped=config.models.shapes != "square",
    )


def _groups(artifact: Artifact) -> tuple[GroupFacts, ...]:
    guidance = _guidance(artifact)
    return tuple(
        GroupFacts(
            label=group.group.label,
            attribute=group.group.attribute,
            real=group.real,
            accepted=group.accepted,
            quota=group.quota,
            generator=group.origin,
            rejected=group.rejected,
            prompts=group.prompts,
            remark=(group.not_made and group.why) or group.remark or group.why,
            guidance=tuple(guidance.get(group.group, ())),
        )
        for group in group_records(artifact)
    )


def _source(context: Context) -> str:
    """Name of the real images: the dataset's folder, without its location."""
    data = context.config.data
    place = data.root.partition("?")[0] if "://" in data.root else data.root
    return place.rstrip("/").rsplit("/", 1)[-1] if data.root else f"fairsynth's {data.format} dataset"


def _guidance(artifact: Artifact) -> dict[Group, list[float]]:
    """The guidance of each group's accepted images, as their rows say: routes may differ in it."""
    columns = ["label", "attribute", "guidance"]
    rows = pq.read_table(artifact.path / TABLE, columns=[*columns, "verdict"])
    rows = rows.filter(pc.equal(rows["verdict"], ACCEPTED)).select(columns)
    text = {name: rows[name].cast(pa.string()) for name in columns[:2]}
    found: dict[Group, list[float]] = {}
    for row in pa.table(text | {"guidance": rows["guidance"]}).group_by(columns).aggregate([]).to_pylist():
        found.setdefault(Group(row["label"], row["attribute"]), []).append(row["guidance"])
    return {group: sorted(values) for group, values in found.items()}


def _finetune(config: RunConfig, shared: bool) -> str:
    """How adapters were trained; with ``shared`` also that of all groups, which has settings of its own."""
    if config.finetune.generator == "vanilla":
        return ""
    clusters, everyone = config.finetune, config.shared
    told = (
        f"{clusters.generator}, at most {clusters.steps} steps of {clusters.batch_size} images, "
        f"learning rate {clusters.rate:g}"
    )
    if not shared:
        return told
    return (
        f"{told}; that of all groups: {everyone.steps} steps of {everyone.batch_size} images, "
        f"learning rate {everyone.learning_rate:g}"
    )

"""Records of the images that were made: the provenance of each, the results of groups and trial batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsynth.artifacts import Units
from fairsynth.config import RunConfig, SynthesizeConfig
from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.models.hub.few_steps import identity
from fairsynth.models.probe import SEEN_FROM, Recognised
from fairsynth.models.sources import public_name
from fairsynth.stages.synthesize.decisions import Decisions
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.output import ACCEPTED, REASONS, GroupRecord, members
from fairsynth.stages.synthesize.selection import scores
from fairsynth.stages.synthesize.trial_batches import TrialBatch

_COUNTED = ["reason", "constant", "label_probability", "attribute_probability"]
_ABSENT = "no training images: nothing to learn it from (synthesize.absent_groups decides)"


def records_of(
    groups: Sequence[Group],
    table: pa.Table,
    quota: Mapping[Group, int],
    sources: Mapping[Group, Sequence[Source]],
    decided: Decisions,
    real: Mapping[Group, int],
    remarks: Mapping[Group, str],
    recognised: Mapping[Group, Recognised],
) -> list[GroupRecord]:
    """A record per group. ``table``: all images with verdicts. ``real``: training images. ``remarks``: cluster's."""
    places, columns, records = members(table), table.select(_COUNTED), []
    for group in groups:
        route, its, left = decided.routes.get(group), sources.get(group, ()), decided.not_made.get(group)
        counts = _counted(columns.take(pa.array(places.get(group, []), pa.int64())))
        records.append(
            GroupRecord(
                group=group,
                real=real[group],
                quota=quota.get(group, 0),
                origin=route.origin if route else "none",
                route=route.name if route else "none",
                why=route.why if route else left.why if left else "",
                adapters=tuple(source.adapter for source in its if source.adapter),
                prompts=tuple(sorted({source.prompt for source in its})),
                k=len(its) if route and route.origin != "prompt" else 0,
                remark=remarks[group] or ("" if route or left else _ABSENT),
                not_made=left.reason if left else "" if route else "absent",
                recognised=recognised.get(group, Recognised(0, 0)),
                **counts,
            )
        )
    return records


def remarks_on(records: Sequence[GroupRecord]) -> list[str]:
    """What people should know of each group that is not made by adapters of its own."""
    return [
        f"group {record.group}: {record.route if record.route != 'none' else 'not made'} ({record.why})"
        for record in records
        if record.why and record.origin != "own"
    ]


def shortfall(records: Sequence[GroupRecord]) -> str:
    """Which groups were not made, and which lack images, to end a line with; empty if neither."""
    left = [str(record.group) for record in records if record.not_made not in ("", "absent")]
    lacking = [
        f"{record.group} lacks {record.quota - record.accepted}"
        for record in records
        if not record.not_made and record.accepted < record.quota
    ]
    told = [f"NOT MADE: {enumerated(left)}"] if left else []
    return "".join(f"; {text}" for text in told + ([f"SHORTFALL {enumerated(lacking)}"] if lacking else []))


def trial_facts(tried: pa.Table, trials: Mapping[tuple[Group, str], TrialBatch]) -> list[dict[str, Any]]:
    """The facts of each trial batch for report.json: by the probe, which decides, and by zero-shot CLIP beside it."""
    rows, facts = tried.to_pylist(), []
    for (group, route), trial in trials.items():
        batch = [r for r in rows if (r["label"], r["attribute"], r["route"]) == (*group, route)]
        counts = {
            "label": sum(r["label_probability"] >= SEEN_FROM for r in batch),
            "attribute": sum(r["attribute_probability"] >= SEEN_FROM for r in batch),
            "zero_shot_label": sum(r["zero_shot_label"] == group.label for r in batch),
            "zero_shot_attribute": sum(r["zero_shot_attribute"] == group.attribute for r in batch),
        }
        facts.append({"group": list(group), "way": route, "made": trial.made, "both": trial.right} | counts)
    return facts


def _counted(rows: pa.Table) -> dict[str, Any]:
    """Images made, accepted, rejected by reason, and the share in which the filter's probe sees their group."""
    reasons = {
        value["values"]: value["counts"] for value in pc.value_counts(rows["reason"].combine_chunks()).to_pylist()
    }
    right = pc.and_(
        pc.greater_equal(rows["label_probability"], SEEN_FROM),
        pc.greater_equal(rows["attribute_probability"], SEEN_FROM),
    )
    depicting = pc.sum(pc.and_(right, pc.invert(rows["constant"]))).as_py() or 0
    return {
        "made": rows.num_rows,
        "accepted": reasons.pop("", 0),
        "rejected": {reason: reasons[reason] for reason in REASONS if reason in reasons},
        "probe_agreement_made": depicting / rows.num_rows if rows.num_rows else None,
    }


def made_by(config: SynthesizeConfig) -> dict[str, Any]:
    """The settings that images depend on, for the name of their artifact. Where a few-step sampler lies is none of them.

    Runs from before there were such samplers keep their results.
    """
    few_steps = identity(config)
    settings = config.model_dump(exclude={"few_steps", "few_steps_revision"})
    return {"synthesize": settings, **({"few_steps": few_steps} if few_steps else {})}


def with_provenance(
    images: pa.Table, verdict: pa.ChunkedArray, config: RunConfig, diffusion: str, adapters: Units
) -> pa.Table:
    """The rows as they are kept: with score, verdict, and everything needed to make each image again.

    ``diffusion``: revision of the base model; ``adapters``: the units that hold their weights.
    """
    good = pc.equal(verdict, ACCEPTED)
    added: dict[str, Any] = {
        "score": pa.array(scores(images, config.filter.text_weight)),
        "adapter_sha256": _hashes(adapters, images["adapter"]),
        "second_adapter_sha256": _hashes(adapters, images["second_adapter"]),
        "verdict": pc.if_else(good, ACCEPTED, "rejected"),
        "reason": pc.if_else(good, "", verdict),
    }
    constant: dict[str, Any] = {
        "base_model": public_name(config.models.diffusion),
        "base_model_revision": diffusion,
        "scheduler": config.synthesize.scheduler,
        "steps": config.synthesize.steps,
        "guidance_until": config.synthesize.guidance_until,
        "image_size": config.models.image_size,
        "dtype": config.models.dtype,
        **({"few_steps": public_name(how.few_steps)} if (how := config.synthesize).few_steps else {}),
    }
    added |= {name: _repeated(value, images.num_rows) for name, value in constant.items()}
    table = images.drop_columns(["look"])
    for name, column in added.items():
        table = table.append_column(name, column)
    return table


def _repeated(value: Any, n: int) -> pa.Array:
    """The same value in every row, text held once."""
    if not isinstance(value, str):
        return pa.repeat(pa.scalar(value), n)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), pa.array([value]))


def _hashes(adapters: Units, names: pa.ChunkedArray) -> pa.Array:
    """SHA-256 of the weights of the adapter in each row, null where there is none."""
    codes = names.unify_dictionaries().combine_chunks()
    hashes = [_hash(adapters[name]) for name in codes.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(codes.indices, pa.array(hashes, pa.string()))


def _hash(adapter: Path) -> str:
    """SHA-256 of an adapter's weights."""
    from fairsynth.models.adapters import weights_file  # imports torch, which readers do not need

    path = weights_file(adapter)
    assert path is not None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

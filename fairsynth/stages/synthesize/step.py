"""Step synthesize: from adapters to a group-balanced set: routed, planned, generated, filtered."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsynth.artifacts import Counts
from fairsynth.engine.units import Work
from fairsynth.errors import ConfigError
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.models.schedule import Sampling
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.finetune.plan import token_of
from fairsynth.stages.finetune.step import adapter_units, words
from fairsynth.stages.synthesize import image_plan, routing, selection
from fairsynth.stages.synthesize import judgement as judging
from fairsynth.stages.synthesize.generate import GenerateUnit
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.output import TABLE
from fairsynth.stages.synthesize.rounds import Rounds, write_table
from fairsynth.stages.synthesize.routing import Adapter, Route, Trial
from fairsynth.stages.synthesize.view import public_name, show
from fairsynth.stages.views import shows

VERSION = 3
_COUNTED = ["reason", "constant", "label_probability", "attribute_probability"]
_ABSENT = "no training images: nothing to learn it from (synthesize.absent_groups decides)"


def synthesize(context: Context) -> Done:
    """Decide how each group is made, then plan, generate, filter, until every quota holds or the rounds are used up."""
    config = context.config
    recipe = {
        "synthesize": config.synthesize.model_dump(),
        "filter": config.filter.model_dump(),
        "seed": config.seed,
    } | words(context)
    artifact = context.artifact(
        "synthesize", VERSION, ("finetune", "embed", "ingest"), recipe, **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only and not shows(context.root / "synthetic", artifact):
            show(context, artifact)
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    quota = image_plan.quotas(_groups_to_make(context), config.synthesize.per_group, config.synthesize.fill)
    possible = _ways(context, list(quota))
    ways = {group: list(found) for group, found in possible.items()}
    _check_routes(context, ways)
    judged = judging.prepare(context, artifact, list(quota))
    rounds = Rounds(
        context.session,
        artifact,
        config.synthesize,
        config.filter,
        config.seed,
        partial(_maker, context, judged),
        judged.copy_threshold,
        config.finetune.parameters == "adapter",
    )
    tried, trials = rounds.trials(routing.to_try(ways, config.synthesize), possible)
    routes = routing.decide(ways, trials, config.synthesize)
    sources = {group: possible[group][route.way] for group, route in routes.items()}
    images, verdict = rounds.until_full(quota, sources)
    table = _with_provenance(context, images, verdict)
    write_table(table, folder / TABLE)
    write_table(tried, folder / "trials.parquet")
    lacking = selection.missing(images, verdict, quota)
    accepted = pc.sum(pc.equal(verdict, selection.ACCEPTED)).as_py() or 0
    shortfall = "; SHORTFALL " + ", ".join(f"{g} lacks {n}" for g, n in lacking.items()) if lacking else ""
    done = watch.finish(
        Counts(images.num_rows, accepted, 0, images.num_rows - accepted),
        rounds.ran,
        f"{accepted} images kept of {images.num_rows}{shortfall}",
        remarks=[f"group {group}: {route.way} ({route.why})" for group, route in routes.items() if route.kind != "own"],
        codec=judged.codec.to_dict(),
        copy_threshold=judged.copy_threshold,
        probe_right=dict(judged.probe_right),
        trials=_trial_facts(tried, trials),
        groups=_group_facts(context, table, quota, sources, routes),
    )
    show(context, artifact)
    return done


def _groups_to_make(context: Context) -> Counter[Group]:
    """Training images per group that is to be made; groups without any only if they are asked for."""
    counts = context.manifest.split(TRAIN).counts()
    if context.config.synthesize.absent_groups == "make":
        for group in _all_groups(context):
            counts.setdefault(group, 0)
    return counts


def _all_groups(context: Context) -> list[Group]:
    labels, attributes = context.group_names
    return [Group(label, attribute) for label in labels for attribute in attributes]


def _ways(context: Context, groups: Sequence[Group]) -> dict[Group, dict[str, list[Source]]]:
    """How each group could be made with the adapters that there are."""
    counts, config = context.manifest.split(TRAIN).counts(), context.config
    adapters = [
        Adapter(
            facts["name"],
            Group(facts["label"], facts["attribute"]),
            facts["cluster"],
            facts["prompt"],
            facts["images"],
            token_of(config.finetune, facts["cluster"]),
        )
        for facts in adapter_units(context.artifacts["finetune"])
        if not facts["failed"]
    ]
    how, template = config.synthesize, config.finetune.prompt
    return {group: routing.ways(group, adapters, counts, how, config.data, template) for group in groups}


def _check_routes(context: Context, ways: Mapping[Group, Sequence[str]]) -> None:
    """Raise ConfigError for a route that there is not, before anything is made."""
    try:
        routing.overrides(context.config.synthesize, ways)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def sampling_of(context: Context) -> Sampling:
    """How images are denoised, by the config."""
    config = context.config.synthesize
    return Sampling(config.steps, config.scheduler, config.guidance_until)


def _maker(context: Context, judged: judging.Judged, plan: Path) -> Callable[[], Work]:
    adapters = context.artifacts["finetune"].units().path
    models = context.config.models
    return partial(GenerateUnit, models, sampling_of(context), plan, adapters, judged.judgement, judged.codec)


def _with_provenance(context: Context, images: pa.Table, verdict: pa.ChunkedArray) -> pa.Table:
    """The rows as they are kept: score, verdict, and all that is needed to make each image again."""
    config = context.config
    good = pc.equal(verdict, selection.ACCEPTED)
    added: dict[str, Any] = {
        "score": pa.array(selection.scores(images, config.filter.text_weight)),
        "adapter_sha256": _hashes(context, images["adapter"]),
        "second_adapter_sha256": _hashes(context, images["second_adapter"]),
        "verdict": pc.if_else(good, selection.ACCEPTED, "rejected"),
        "reason": pc.if_else(good, "", verdict),
    }
    constant: dict[str, Any] = {
        "base_model": public_name(config.models.diffusion),
        "base_model_revision": context.model_identity["diffusion"],
        "scheduler": config.synthesize.scheduler,
        "steps": config.synthesize.steps,
        "guidance_until": config.synthesize.guidance_until,
        "image_size": config.models.image_size,
        "dtype": config.models.dtype,
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


def _hashes(context: Context, adapters: pa.ChunkedArray) -> pa.Array:
    """SHA-256 of the weights of the adapter in each row, null where there is none."""
    codes = adapters.unify_dictionaries().combine_chunks()
    hashes = [_hash(context, name) for name in codes.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(codes.indices, pa.array(hashes, pa.string()))


def _hash(context: Context, adapter: str) -> str:
    """SHA-256 of an adapter's weights."""
    from fairsynth.models.adapters import weights_file  # torch: not for those who look only

    path = weights_file(context.artifacts["finetune"].units()[adapter])
    assert path is not None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trial_facts(tried: pa.Table, trials: Mapping[tuple[Group, str], Trial]) -> list[dict[str, Any]]:
    """What report.json says of each trial batch: the probe's word, which decides, and zero-shot CLIP's beside it."""
    rows, facts = tried.to_pylist(), []
    for (group, way), trial in trials.items():
        mine = [r for r in rows if (r["label"], r["attribute"], r["route"]) == (*group, way)]
        shown = {
            "label": sum(r["label_probability"] >= 0.5 for r in mine),
            "attribute": sum(r["attribute_probability"] >= 0.5 for r in mine),
            "zero_shot_label": sum(r["zero_shot_label"] == group.label for r in mine),
            "zero_shot_attribute": sum(r["zero_shot_attribute"] == group.attribute for r in mine),
        }
        facts.append({"group": list(group), "way": way, "made": trial.made, "both": trial.right} | shown)
    return facts


def _group_facts(
    context: Context,
    table: pa.Table,
    quota: Mapping[Group, int],
    sources: Mapping[Group, Sequence[Source]],
    routes: Mapping[Group, Route],
) -> list[dict[str, Any]]:
    """What report.json says of each group."""
    real, remarks, facts = context.manifest.split(TRAIN).counts(), context.artifacts["cluster"].record["groups"], []
    places, told = selection.members(table), table.select(_COUNTED)
    for group in sorted({*quota, *_all_groups(context)}):
        route, mine = routes.get(group), sources.get(group, ())
        counts = _counted(told.take(pa.array(places.get(group, []), pa.int64())))
        facts.append(
            {
                "label": group.label,
                "attribute": group.attribute,
                "real": real[group],
                "synthetic": counts["accepted"],
                "generator": route.kind if route else "none",
                "way": route.way if route else "none",
                "why": route.why if route else "",
                "adapters": [source.adapter for source in mine if source.adapter],
                "prompts": sorted({source.prompt for source in mine}),
                "k": len(mine) if route and route.kind != "prompt" else 0,
                "quota": quota.get(group, 0),
                **counts,
                "remark": remarks.get(group.slug, {}).get("remark", "") or ("" if route else _ABSENT),
            }
        )
    return facts


def _counted(rows: pa.Table) -> dict[str, Any]:
    """Images made, accepted, rejected by reason, and the share of those made that the filter's probe takes for theirs."""
    reasons = {
        value["values"]: value["counts"] for value in pc.value_counts(rows["reason"].combine_chunks()).to_pylist()
    }
    seen = pc.and_(
        pc.greater_equal(rows["label_probability"], 0.5), pc.greater_equal(rows["attribute_probability"], 0.5)
    )
    shown = pc.sum(pc.and_(seen, pc.invert(rows["constant"]))).as_py() or 0
    return {
        "made": rows.num_rows,
        "accepted": reasons.pop("", 0),
        "rejected": {reason: reasons[reason] for reason in selection.REASONS if reason in reasons},
        "probe_agreement_made": shown / rows.num_rows if rows.num_rows else None,
    }

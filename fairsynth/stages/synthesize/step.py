"""Stage synthesize: from adapters to a group-balanced set: routed, planned, generated, filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from fairsynth.artifacts import Artifact, Counts
from fairsynth.errors import ConfigError
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.stages.cluster.output import recognised_groups, remark_on
from fairsynth.stages.context import Context
from fairsynth.stages.embed.output import embedded_groups, image_shapes, real_images
from fairsynth.stages.finetune.output import (
    has_shared,
    needs_shared,
    planned_jobs,
    planned_shared,
    trained_adapters,
    words,
)
from fairsynth.stages.stage import Made, check_prompts
from fairsynth.stages.synthesize import filter_setup, image_plan
from fairsynth.stages.synthesize.decisions import Sources, all_texts, decide_groups, possible_sources
from fairsynth.stages.synthesize.output import TABLE, group_texts
from fairsynth.stages.synthesize.records import made_by, records_of, remarks_on, shortfall, trial_facts, with_provenance
from fairsynth.stages.synthesize.rounds import UNITS_PER_CALL, Rounds, write_table

VERSION = 5


def artifact(context: Context) -> Artifact:
    """Named by the adapters, the models, and how images are routed, made and filtered."""
    config = context.config
    recipe = {
        **made_by(config.synthesize),
        "filter": config.filter.model_dump(),
        **({"shared_guidance": config.shared.guidance} if needs_shared(config) else {}),
        "seed": config.seed,
        **words(config.data),
    }
    inputs = ("finetune", "embed", "ingest")
    return context.artifact("synthesize", VERSION, inputs, recipe, **context.model_identity)


def make(context: Context, artifact: Artifact) -> Made:
    """Decide which groups are made and how; then plan, generate, filter, until every quota holds or rounds are used up."""
    check_prompts(context)
    config = context.config
    quota = image_plan.quotas(_groups_to_make(context), config.synthesize.per_group, config.synthesize.fill)
    possible, real = _possible_sources(context, list(quota)), context.train_counts
    setup = _filter_setup(context, artifact, list(quota))
    rounds = Rounds(
        partial(context.run_units, artifact, per_call=UNITS_PER_CALL),
        artifact,
        config.synthesize,
        config.filter,
        config.seed,
        setup.maker(config, context.artifacts["finetune"].units().path),
        setup.copy_threshold,
        config.finetune.parameters == "adapter",
        (config.models, all_texts(possible)),
        _shapes(context),
    )
    try_out = partial(rounds.trials, sources=possible)
    known = setup.recognised, config.synthesize, config.filter
    decided = decide_groups(possible, quota, real, *known, try_out, setup.mistaken)
    sources = {group: possible[group][route.name] for group, route in decided.routes.items()}
    images, verdict = rounds.until_full({group: quota[group] for group in sorted(sources)}, sources)
    adapters, revision = context.artifacts["finetune"].units(), context.model_identity["diffusion"]
    table = with_provenance(images, verdict, config, revision, adapters)
    write_table(table, artifact.path / TABLE)
    write_table(decided.tried, artifact.path / "trials.parquet")
    groups = sorted({*quota, *context.groups})
    remarks = {group: remark_on(context.artifacts["cluster"], group) for group in groups}
    records = records_of(groups, table, quota, sources, decided, real, remarks, setup.recognised)
    kept = sum(record.accepted for record in records)
    return Made(
        Counts(images.num_rows, kept, 0, images.num_rows - kept),
        f"{kept} images kept of {images.num_rows}{shortfall(records)}",
        rounds.ran,
        facts={
            "remarks": remarks_on(records),
            "codec": setup.codec.to_dict(),
            "copy_threshold": setup.copy_threshold,
            "probe_right": dict(setup.probe_right),
            "trials": trial_facts(decided.tried, decided.trials),
            "groups": [record.to_json() for record in records],
        },
    )


def _groups_to_make(context: Context) -> Counter[Group]:
    """Training images of each group to make; groups without any only if the config asks for them."""
    counts = context.train_counts
    if context.config.synthesize.absent_groups == "make":
        for group in context.groups:
            counts.setdefault(group, 0)
    return counts


def _possible_sources(context: Context, groups: Sequence[Group]) -> Sources:
    """The sources of each group's images, by route, with the adapters that were trained.

    Raises ConfigError for an unknown or impossible route, before anything is made.
    """
    counts, config = context.train_counts, context.config
    adapters = trained_adapters(context.artifacts["finetune"], config.finetune)
    guidance = config.shared.guidance if has_shared(context.artifacts["finetune"]) else None
    how = config.synthesize, config.data, config.finetune.prompt, guidance
    try:
        return possible_sources(groups, adapters, counts, *how)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _shapes(context: Context) -> image_plan.ShapesOf | None:
    """The shapes of the images to make: as the training images have them, if they have any but squares."""
    if context.config.models.shapes == "square":
        return None
    jobs = planned_jobs(context.config, context.artifacts["cluster"], context.manifest)
    embedded = context.artifacts["embed"]
    return image_plan.ImageShapes(
        image_shapes(embedded),
        {job.name: job.image_ids for job in jobs},
        embedded_groups(embedded, context.manifest),
        context.config.models.image_size,
    )


def _filter_setup(context: Context, artifact: Artifact, groups: Sequence[Group]) -> filter_setup.FilterSetup:
    """What images are compared with: real images, prompts, and what each adapter learnt."""
    embedded, manifest = context.artifacts["embed"], context.manifest
    train, validation = (real_images(embedded, manifest, split) for split in (TRAIN, VALIDATION))
    jobs = planned_jobs(context.config, context.artifacts["cluster"], manifest)
    shared = planned_shared(
        context.config, context.artifacts["cluster"], dict(zip(train.ids, train.groups, strict=True))
    )
    learners = [*jobs, *([shared] if shared else [])]
    training = filter_setup.write_training(artifact.path / "training", learners, train)
    artifact.send("training")
    setup = filter_setup.set_up(
        train,
        validation,
        group_texts(context.config, [*groups, *context.groups]),
        training,
        filter_setup.codec_files(manifest, context.dataset.images),
    )
    # Finetune went by what cluster found; another machine might round otherwise.
    return setup._replace(recognised={**setup.recognised, **recognised_groups(context.artifacts["cluster"])})

"""A row for each stage: its units, images, steps and bytes, and its work in the pieces that rates count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fairsynth.commands.plan.adapters import AdapterPlan, clusters_tried, lots
from fairsynth.commands.plan.counts import Counted
from fairsynth.commands.plan.images import ImagesPlan
from fairsynth.commands.plan.rates import Stated
from fairsynth.commands.plan.search import Images, final_cost, search_cost, smallest
from fairsynth.commands.plan.span import Span
from fairsynth.config import RunConfig
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.models.sources import SMALL
from fairsynth.stages.ingest.step import FEW, INGEST_UNIT

_ADAPTERS_TWICE, _IMAGES_TWICE = 2, 2  # in the stage, and laid out for people
_KINDS_OF_LATENTS = 2  # mean and deviation
AUDITED = 2000  # of a group at most: ``stages.audit.output.PER_GROUP``


@dataclass(frozen=True)
class Row:
    """What one stage has to do if nothing of it is there.

    ``pieces``: its likely work; ``most``: how many times that it may be. ``side_by_side``: at most so many workers are busy.
    """

    name: str
    units: Span
    pieces: float
    size: float
    side_by_side: int
    images: Span | None = None
    steps: Span | None = None
    most: float = 1.0


def stage_rows(
    config: RunConfig, counted: Counted, adapters: AdapterPlan, synthesis: ImagesPlan, stated: Stated
) -> dict[str, Row]:
    """The rows of all nine stages, by name."""
    rows = [
        *_of_real_images(config, counted, stated.sizes),
        _finetune(config, adapters, stated),
        *_of_synthetic_images(config, synthesis, stated.sizes),
        *_of_classifiers(config, counted, synthesis, stated.sizes),
        Row("report", Span.of(1), 1.0, 2e6, 1),
    ]
    return {row.name: row for row in rows}


def _of_real_images(config: RunConfig, counted: Counted, sizes: Mapping[str, float]) -> list[Row]:
    train, validation = counted.total(TRAIN), counted.total(VALIDATION)
    side, unit = config.models.image_size, config.embed.unit_size
    embedded = math.ceil(train / unit) + math.ceil(validation / unit)
    latents = _KINDS_OF_LATENTS * 4 * sizes["latent_channels"] * (side / sizes["pixels_per_latent"]) ** 2
    groups = counted.splits[TRAIN]
    ingested = math.ceil(counted.used / INGEST_UNIT)
    tried = sum(n * clusters_tried(config, n) for n in groups.values())
    checking = 1 if counted.used <= FEW else ingested
    return [
        Row("ingest", Span.of(ingested), counted.used, 200 * counted.named, checking, Span.of(counted.used)),
        Row(
            "embed",
            Span.of(embedded),
            train + validation,
            (train + validation) * sizes["vector"] + train * latents,
            embedded,
            Span.of(train + validation),
        ),
        Row("cluster", Span.of(sum(n > 0 for n in groups.values())), tried, 60 * train, 1, Span.of(train)),
    ]


def _finetune(config: RunConfig, adapters: AdapterPlan, stated: Stated) -> Row:
    sizes, full = stated.sizes, config.finetune.parameters == "full"
    own = sizes["full_unet"] if full else sizes["adapter_per_rank"] * config.finetune.rank
    size = len(adapters.adapters) * own + adapters.shared * sizes["shared_per_rank"] * config.shared.rank
    jobs = lots(len(adapters.adapters), max(1, len(adapters.adapters)), config.resources.adapters_per_run)
    most = adapters.samples.most / max(1, adapters.samples.likely)
    pieces = adapters.samples.likely + adapters.class_images
    return Row(
        "finetune",
        adapters.units,
        pieces,
        _ADAPTERS_TWICE * size,
        jobs + adapters.shared,
        Span.of(adapters.class_images) if adapters.class_images else None,
        adapters.steps,
        most,
    )


def _of_synthetic_images(config: RunConfig, synthesis: ImagesPlan, sizes: Mapping[str, float]) -> list[Row]:
    side, settings = config.models.image_size, config.synthesize
    each = sizes["file_per_pixel"] * side**2
    steps = guided_steps(settings.steps, settings.guidance, settings.guidance_until)
    size = synthesis.images.likely * (each + sizes["vector"]) + (_IMAGES_TWICE - 1) * synthesis.wanted * each
    # That no image passes until the last round is possible and rare: the time's range is for twice as many.
    most = min(2.0, synthesis.images.most / max(1, synthesis.images.likely))
    made, audited = synthesis.images, sum(min(group.quota, AUDITED) for group in synthesis.groups)
    return [
        Row("synthesize", synthesis.units, made.likely * steps, size, synthesis.units.likely, made, None, most),
        Row("audit", Span.of(1), audited, 1e5, 1, Span(0, audited, audited)),
    ]


def guided_steps(steps: int, guidance: float, until: float) -> float:
    """The work of so many denoising steps, in steps with guidance: it takes two passes of the network in those it is for."""
    return steps * (1 + (until if guidance > 1 else 0.0)) / 2


def _of_classifiers(
    config: RunConfig, counted: Counted, synthesis: ImagesPlan, sizes: Mapping[str, float]
) -> list[Row]:
    train, validation, test = (counted.total(split) for split in (TRAIN, VALIDATION, TEST))
    largest = max(counted.splits[TRAIN].values(), default=0)
    filling = sum(largest - n for n in counted.splits[TRAIN].values())
    least = smallest(counted.splits[TRAIN], counted.splits[VALIDATION])
    images = Images(train, validation, test, synthesis.wanted, filling, least)
    search, final = search_cost(config, images), final_cost(config, images)
    methods, seeds, pixels = len(config.tune.methods), config.evaluate.seeds, 3 * config.classify.image_size**2
    trials, trainings = methods * config.tune.trials, methods * seeds
    model = sizes["small_classifier"] if config.classify.backbone == SMALL else sizes["classifier"]
    seen = train + validation + synthesis.wanted
    return [
        Row(
            "tune",
            Span.of(trials),
            search.visits,
            seen * pixels,
            trials,
            Span.of(train + validation),
            Span(0, round(search.steps), round(search.steps)),
        ),
        Row(
            "evaluate",
            Span.of(trainings),
            final.visits,
            test * pixels + trainings * model,
            trainings,
            Span.of(test),
            Span(0, round(final.steps), round(final.steps)),
        ),
    ]

"""The adapters that finetune will train, from the sizes of groups or, once they are made, from the clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairsynth.commands.plan.span import NONE, Span
from fairsynth.config import RunConfig
from fairsynth.groups import Group
from fairsynth.models.sources import is_demo
from fairsynth.prompts import fill
from fairsynth.stages.finetune.compiling import SECONDS, least_samples, saved
from fairsynth.stages.finetune.jobs import needs_class_images, step_budget, token_of
from fairsynth.stages.finetune.output import Adapter, LeftOut, left_out_remarks, needs_shared

Sizes = Mapping[Group, Sequence[int]]
"""Images of each cluster of each group."""
_STATED = "stated for Stable Diffusion 1.5 on one H100"


@dataclass(frozen=True)
class AdapterPlan:
    """The likely adapters, and how many there will be. ``samples``: images that go through training, the prior's too."""

    adapters: tuple[Adapter, ...]
    clusters: Mapping[Group, Span]
    units: Span
    steps: Span
    samples: Span
    class_images: int
    shared: bool
    left_out: LeftOut = field(default_factory=dict)
    """Attributes whose groups get none, and are not made, as far as that is known."""


def plan_adapters(
    config: RunConfig, train: Mapping[Group, int], known: Sizes | None = None, left_out: LeftOut | None = None
) -> AdapterPlan:
    """Adapters for the training images of each group; ``known``: the clusters, if these are made, and who is left out then."""
    nobodys = left_out or {}
    settings = config.finetune
    clusters = {group: _clusters(config, n) for group, n in sorted(train.items()) if n}
    sizes: Sizes = {group: _even(train[group], span.likely) for group, span in clusters.items() if span.likely}
    if known is not None:
        sizes = {group: _merged(config, its) for group, its in known.items() if its and group.attribute not in nobodys}
        clusters = {group: Span.of(len(sizes.get(group, ()))) for group in clusters}
    adapters = tuple(_adapters(config, sizes))
    steps = sum(step_budget(settings, adapter.images) for adapter in adapters)
    least = sum(step_budget(settings, train[group]) for group, span in clusters.items() if span.least)
    most = sum(span.most for span in clusters.values()) * settings.steps
    own = Span.of(steps) if known is not None else Span(min(least, steps), steps, max(most, steps))
    shared = needs_shared(config) and _prompts_differ(config, list(clusters))
    shared = shared and not {group.attribute for group in clusters} <= nobodys.keys()
    each = settings.batch_size + settings.prior_size
    samples, units = own.times(each), _sum(list(clusters.values()))
    if shared:
        units, samples = units.plus(Span.of(1)), samples.plus(Span.of(config.shared.steps * config.shared.batch_size))
        own = own.plus(Span.of(config.shared.steps))
    prompts = len({adapter.group for adapter in adapters}) if needs_class_images(settings) else 0
    units = units.plus(Span.of(prompts))
    return AdapterPlan(adapters, clusters, units, own, samples, prompts * settings.class_images, shared, nobodys)


def left_out_notes(config: RunConfig, adapters: AdapterPlan) -> tuple[str, ...]:
    """A note for people for each attribute whose groups get no adapter."""
    return tuple(left_out_remarks(adapters.left_out, config.filter.least_recognised))


def compile_notes(config: RunConfig, adapters: AdapterPlan, workers: int) -> tuple[str, ...]:
    """A note for people; none where the settings leave nothing to decide, or where no GPU is meant.

    The clusters' adapters count, as many in each lot: the one that all groups share has a lot of its own, which seldom pays.
    """
    tuned = config.finetune
    decided = config.resources.compile in ("always", "never") or config.models.shapes != "square"
    if decided or tuned.parameters == "full" or not adapters.adapters or is_demo(config.models.diffusion):
        return ()
    of_shared = config.shared.steps * config.shared.batch_size if adapters.shared else 0
    each = (adapters.samples.likely - of_shared) / lots(
        len(adapters.adapters), workers, config.resources.adapters_per_run
    )
    side = config.models.image_size
    gain = saved(each, side)
    if gain > 0:
        return (
            f"finetune compiles its network on GPUs: {SECONDS:,.0f} s on each worker, which save {gain + SECONDS:,.0f} s of "
            f"training ({_STATED}); --resources.compile never leaves it out",
        )
    return (
        f"finetune does not compile its network: that pays from {least_samples(side):,.0f} samples of a worker on, and here are "
        f"{each:,.0f} ({_STATED}); --resources.compile always does it all the same",
    )


def clusters_tried(config: RunConfig, n: int) -> int:
    """The centres of all k-means runs of a group of n images: what clustering it costs, per image."""
    if n < config.cluster.min_group:
        return 0
    most = max(1, min(_most(config), n // config.cluster.min_size))
    ks = range(2, most + 1) if config.cluster.k == "auto" else (most,)
    return sum(ks) * config.cluster.restarts


def _most(config: RunConfig) -> int:
    return config.cluster.max_k if config.cluster.k == "auto" else config.cluster.k


def _clusters(config: RunConfig, n: int) -> Span:
    """Adapters of a group of n images."""
    cluster, generator = config.cluster, config.finetune.generator
    if generator == "vanilla" or n < cluster.min_group:
        return NONE
    most = max(1, min(_most(config), n // cluster.min_size)) if generator == "clustered-dreambooth" else 1
    return Span(1, (1 + most) // 2 if cluster.k == "auto" else most, most)


def _merged(config: RunConfig, sizes: Sequence[int]) -> Sequence[int]:
    """What adapters learn of known clusters: each its own, or one all of them."""
    if config.finetune.generator == "vanilla":
        return ()
    return sizes if config.finetune.generator == "clustered-dreambooth" else (sum(sizes),)


def _even(n: int, parts: int) -> list[int]:
    return [n // parts + (i < n % parts) for i in range(parts)]


def _adapters(config: RunConfig, sizes: Sizes) -> list[Adapter]:
    found = []
    for group, its in sorted(sizes.items()):
        for cluster, n in enumerate(its):
            token = token_of(config.finetune, cluster)
            prompt = fill(config.finetune.prompt, config.data, group, token)
            found.append(Adapter(f"{group.slug}--{cluster}", group, cluster, prompt, n, token))
    return found


def _prompts_differ(config: RunConfig, groups: Sequence[Group]) -> bool:
    """Whether the shared adapter can tell the groups apart: see ``finetune.jobs.plan_shared``."""
    prompts = {fill(config.finetune.prompt, config.data, group) for group in groups}
    return bool(groups) and len(prompts) == len(groups)


def _sum(spans: Sequence[Span]) -> Span:
    total = NONE
    for span in spans:
        total = total.plus(span)
    return total


def lots(jobs: int, workers: int, per_lot: int | None) -> int:
    """Training runs that can be side by side: see ``finetune.jobs.lots``."""
    return math.ceil(jobs / per_lot) if per_lot else min(workers, jobs)

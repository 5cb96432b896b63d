"""The images that synthesize will make, group by group, and by which routes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairsynth.commands.plan.adapters import AdapterPlan
from fairsynth.commands.plan.span import Span
from fairsynth.config import RunConfig
from fairsynth.data.shapes import MOST_SHAPES
from fairsynth.errors import ConfigError
from fairsynth.groups import Group
from fairsynth.stages.synthesize.image_plan import Source, plan_images, quotas, shares
from fairsynth.stages.synthesize.routes import possible_routes
from fairsynth.stages.synthesize.routing import decide, overrides, to_try

_PREFERRED = ("shared", "own", "same-attribute", "prompt")
# Up to so many images the units are counted by planning them; of more, few can share a unit.
_PLANNED = 5000
_MOST_PER_MISSING = 4
Sources = Mapping[Group, Mapping[str, Sequence[Source]]]


@dataclass(frozen=True)
class GroupPlan:
    """How one group will be made. ``route``: empty while trial batches are to decide among ``tried``."""

    group: Group
    real: int
    quota: int
    first_round: int
    route: str
    tried: tuple[str, ...]
    lender: str = ""
    outcome: str = ""
    """What became of it, once synthesize is finished."""
    left_out: bool = False
    """It will not be made, as far as that is known."""


@dataclass(frozen=True)
class ImagesPlan:
    """All groups, and the images and units of trial batches and rounds."""

    groups: tuple[GroupPlan, ...]
    trial_images: int
    images: Span
    """Trial batches included."""
    units: Span

    @property
    def wanted(self) -> int:
        """Accepted images that all groups together are to have."""
        return sum(group.quota for group in self.groups)


def plan_synthesis(
    config: RunConfig, train: Mapping[Group, int], every: Sequence[Group], plan: AdapterPlan
) -> ImagesPlan:
    """``train``: training images of each group; ``every``: all groups that the dataset's values can make.

    Raises ConfigError for a route that is impossible.
    """
    settings, real = config.synthesize, {group: n for group, n in train.items() if n}
    counts = real | ({g: real.get(g, 0) for g in every} if settings.absent_groups == "make" else {})
    every_quota = quotas(counts, settings.per_group, settings.fill)
    sources = _sources(config, list(every_quota), counts, plan)
    names = {group: list(by_route) for group, by_route in sources.items()}
    try:
        named = overrides(settings, names)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    quota = {group: n for group, n in every_quota.items() if group.attribute not in plan.left_out}
    names = {group: names[group] for group in quota}
    wanted = to_try(names, settings)
    decided = {} if settings.routing == "auto" else {g: r.name for g, r in decide(names, {}, settings).items()}
    tried = {group: tuple(route for other, route in wanted if other == group) for group in quota}
    decided |= {group: "prompt" for group in quota if settings.routing == "auto" and set(tried[group]) <= {"prompt"}}
    decided |= named
    needed = {group: math.ceil(n / config.filter.keep - 1e-9) for group, n in quota.items()}
    groups = tuple(
        GroupPlan(
            group, counts[group], n, needed[group], decided.get(group, ""), tried[group], _lender(sources[group], plan)
        )
        for group, n in quota.items()
    )
    groups += tuple(GroupPlan(g, counts[g], 0, 0, "", (), left_out=True) for g in every_quota if g not in quota)
    likely = {g: decided.get(g) or next(r for r in _PREFERRED if r in names[g]) for g in quota}
    chosen = {group: sources[group][likely[group]] for group in quota}
    trial_units = _trial_units(config, wanted, sources)
    trials = len(wanted) * settings.trial_images
    first = sum(needed.values())
    further = (config.filter.max_rounds - 1) * _MOST_PER_MISSING
    most = _most_units(config, needed, quota, sources, trial_units)
    return ImagesPlan(
        tuple(sorted(groups, key=lambda one: one.group)),
        trials,
        Span(trials, trials + first, trials + first + further * sum(quota.values())),
        Span(trial_units, trial_units + _round_units(config, needed, chosen), most),
    )


def _most_units(
    config: RunConfig, needed: Mapping[Group, int], quota: Mapping[Group, int], sources: Sources, trial_units: int
) -> int:
    """Units of the trial batches and of as many rounds as there may be."""
    # No unit has images of two shapes.
    shapes = MOST_SHAPES if config.models.shapes != "square" else 1
    size, rounds = config.synthesize.unit_size, config.filter.max_rounds
    return trial_units * shapes + sum(
        math.ceil(needed[g] / size)
        + (rounds - 1) * math.ceil(_MOST_PER_MISSING * n / size)
        + rounds * shapes * max(len(its) for its in sources[g].values())
        for g, n in quota.items()
        if n
    )


def with_outcomes(groups: Sequence[GroupPlan], records: Sequence[Mapping[str, Any]]) -> tuple[GroupPlan, ...]:
    """The groups as the finished stage records them."""
    found = {(record["label"], record["attribute"]): record for record in records}
    return tuple(_with_outcome(group, found.get((group.group.label, group.group.attribute))) for group in groups)


def _with_outcome(group: GroupPlan, record: Mapping[str, Any] | None) -> GroupPlan:
    if record is None:
        return group
    made = f"made, {record['accepted']:,} kept of {record['made']:,}"
    outcome = f"not made: {record['why']}" if record["not_made"] else made
    return replace(group, quota=record["quota"], route=record["way"], outcome=outcome)


def _sources(config: RunConfig, groups: Sequence[Group], counts: Mapping[Group, int], plan: AdapterPlan) -> Sources:
    guidance = config.shared.guidance if plan.shared else None
    how = config.synthesize, config.data, config.finetune.prompt, guidance
    return {group: possible_routes(group, plan.adapters, counts, *how) for group in groups}


def _lender(by_route: Mapping[str, Sequence[Source]], plan: AdapterPlan) -> str:
    """Whose adapters would be borrowed for the same attribute; empty without any."""
    lent = by_route.get("same-attribute", ())
    return next((str(adapter.group) for adapter in plan.adapters if lent and adapter.name == lent[0].adapter), "")


def _trial_units(config: RunConfig, wanted: Sequence[tuple[Group, str]], sources: Sources) -> int:
    units = 0
    for route in sorted({route for _, route in wanted}):
        groups = {group: sources[group][route] for group, other in wanted if other == route}
        units += _round_units(config, dict.fromkeys(groups, config.synthesize.trial_images), groups)
    return units


def _round_units(config: RunConfig, needed: Mapping[Group, int], sources: Mapping[Group, Sequence[Source]]) -> int:
    """Units of one round: as ``image_plan`` cuts them, for large rounds without units that sources share."""
    size, stack = config.synthesize.unit_size, config.finetune.parameters == "adapter"
    uniform = config.synthesize.cluster_shares == "uniform"
    if sum(needed.values()) <= _PLANNED:
        planned = plan_images(needed, sources, config.seed, 0, size, uniform, False, stack)
        return len(planned["unit"].unique())
    return sum(
        math.ceil(n / size)
        for group, total in needed.items()
        for n in shares(total, [1 if uniform else source.weight for source in sources[group]])
    )

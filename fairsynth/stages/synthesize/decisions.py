"""What is decided of each group before its images are made: whether it is made at all, and by which route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa

from fairsynth.config import DataConfig, FilterConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised
from fairsynth.stages.finetune.output import Adapter
from fairsynth.stages.synthesize import not_made, routing
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.not_made import NotMade
from fairsynth.stages.synthesize.routes import possible_routes
from fairsynth.stages.synthesize.routing import Route
from fairsynth.stages.synthesize.trial_batches import TrialBatch, least_share

Sources = dict[Group, dict[str, list[Source]]]
"""The sources of each group's images, by route."""
Trials = dict[tuple[Group, str], TrialBatch]
TryOut = Callable[[Sequence[tuple[Group, str]]], tuple[pa.Table, Trials]]
"""Makes trial batches by some routes: the images, and how many of each batch show their group."""


class Decisions(NamedTuple):
    """Routes of the groups that are made, reasons of the others, and the trial batches that decided."""

    routes: dict[Group, Route]
    not_made: dict[Group, NotMade]
    tried: pa.Table
    trials: Trials


def possible_sources(
    groups: Sequence[Group],
    adapters: Sequence[Adapter],
    counts: Mapping[Group, int],
    config: SynthesizeConfig,
    data: DataConfig,
    adapter_prompt: str,
    shared_guidance: float | None = None,
) -> Sources:
    """The possible routes of each group: see ``routes``.

    Raises ValueError if ``synthesize.routes`` names an unknown group or an impossible route.
    """
    possible = {
        group: possible_routes(group, adapters, counts, config, data, adapter_prompt, shared_guidance)
        for group in groups
    }
    routing.overrides(config, _names(possible))
    return possible


def all_texts(possible: Sources) -> list[str]:
    """All prompts and negative prompts that a stage may use, whichever routes are decided for."""
    sources: list[Source] = [one for routes in possible.values() for some in routes.values() for one in some]
    return sorted({text for source in sources for text in (source.prompt, source.negative_prompt)})


def decide_groups(
    possible: Sources,
    quota: Mapping[Group, int],
    real: Mapping[Group, int],
    recognised: Mapping[Group, Recognised],
    config: SynthesizeConfig,
    filter_config: FilterConfig,
    try_out: TryOut,
    mistaken: Mapping[Group, float] = MappingProxyType({}),
) -> Decisions:
    """Decide of all groups. ``real``: training images; ``recognised``: by the probe, among real images; ``mistaken``:
    see ``CrossFitted.mistaken``.

    A group that the probe does not know has no trial batch, nor have those that are not made for its sake.
    """
    names = _names(possible)
    least, named = least_share(names, config.min_shown), routing.overrides(config, names)
    free = {group for group, n in quota.items() if n} - named.keys()
    found = _with_alike(not_made.by_probe(recognised, filter_config.least_recognised), free, real)
    left = {group: routes for group, routes in names.items() if group not in found}
    tried, trials = try_out(routing.to_try(left, config))
    min_right = filter_config.min_right if filter_config.min_probability else 0.0

    def fails(routes: Mapping[Group, Route]) -> dict[Group, NotMade]:
        by_errors = not_made.by_likely(routes, trials, recognised, mistaken, min_right)
        return by_errors | not_made.by_trials(routes, trials, least)

    routes = routing.decide(left, trials, config, least)
    if config.routing == "auto":
        routes = _without_failures(routes, left, fails, lambda names: routing.decide(names, trials, config, least))
    unshown = fails(routes)
    found |= _with_alike(unshown, free - found.keys(), real)
    return Decisions({group: route for group, route in routes.items() if group not in found}, found, tried, trials)


def _without_failures(
    routes: dict[Group, Route],
    names: Mapping[Group, Sequence[str]],
    fails: Callable[[Mapping[Group, Route]], Mapping[Group, NotMade]],
    decide: Callable[[Mapping[Group, Sequence[str]]], dict[Group, Route]],
) -> dict[Group, Route]:
    """The routes, but where the shared adapter fails for a group, another way for its attribute if none fails by that."""
    failed = {group.attribute for group in fails(routes) if routes[group].name == "shared"}
    other = decide({g: [n for n in its if n != "shared" or g.attribute not in failed] for g, its in names.items()})
    better = failed - {group.attribute for group in fails(other)}
    return {group: other[group] if group.attribute in better else route for group, route in routes.items()}


def _names(possible: Sources) -> dict[Group, list[str]]:
    return {group: list(by_route) for group, by_route in possible.items()}


def _with_alike(found: Mapping[Group, NotMade], free: set[Group], real: Mapping[Group, int]) -> dict[Group, NotMade]:
    """What was found of those groups that no route is named for, and what follows for the others with their attribute."""
    own = {group: reason for group, reason in found.items() if group in free}
    return own | not_made.alike(own, real, free)

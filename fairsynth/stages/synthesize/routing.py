"""Which route makes each group's images: see ``routes`` for what there is.

The rule: an adapter swallows what is constant in its images, and a set in which only some groups of an
attribute look real teaches their label by realism. So the groups that share an attribute are made alike: all by the
shared adapter, all by adapters of this attribute (own where the group has some that show it well, else same-attribute),
or all by the prompt. The shared one comes first: by judges that saw unbiased images, what it makes of the demo and of
worlds to settle by is right more often, and looks more real (docs/worlds.md). Whether they are made at all is for ``not_made`` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fairsynth.config import SynthesizeConfig
from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.stages.synthesize.trial_batches import TrialBatch, clearly_less, shows

# Where images come from, as ``report.json`` calls it: own, borrowed, shared or prompt.
ORIGINS = {"own": "own", "shared": "shared", "prompt": "prompt"}
# Routes by the same attribute's adapters: their images look alike.
_ALIKE = ("own", "same-attribute")


@dataclass(frozen=True)
class Route:
    """The route that was decided on for a group, and why."""

    name: str
    why: str

    @property
    def origin(self) -> str:
        """own, borrowed, shared or prompt."""
        return ORIGINS.get(self.name, "borrowed")


def decide(
    possible: Mapping[Group, Sequence[str]],
    trials: Mapping[tuple[Group, str], TrialBatch],
    config: SynthesizeConfig,
    least: float = 0.0,
) -> dict[Group, Route]:
    """The route of every group, all decided at once. ``possible``: the possible routes of each group.

    ``routing: auto`` decides attribute by attribute. All groups of an attribute are made by the adapter that all groups
    share, if there is one, else by adapters of this attribute, else by prompts; unless the worst of them
    then shows its group less often than the worst does in the next of these ways, beyond chance and
    ``prompt_margin``, or only that way shows all of them (``least``: the share of images that must, see
    ``trial_batches.shows``). Other values of ``routing`` take that route wherever it is
    possible: see the config. ``routes`` overrides single groups. Raises KeyError if a trial is missing.
    """
    routes: dict[Group, Route] = {}
    for attribute in sorted({group.attribute for group in possible}):
        members = sorted(group for group in possible if group.attribute == attribute)
        if config.routing == "auto":
            routes |= _alike(members, possible, trials, config, least)
        else:
            routes |= {group: _first(possible[group], PREFERENCES[config.routing]) for group in members}
    return routes | {
        group: Route(name, "synthesize.routes says so") for group, name in overrides(config, possible).items()
    }


# Routes in order of preference, by the value of ``routing``.
PREFERENCES: Mapping[str, tuple[str, ...]] = {
    "paper": ("own", "same-label", "prompt"),
    "own": ("own", "prompt"),
    "same-attribute": ("own", "same-attribute", "prompt"),
    "shared": ("shared", "prompt"),
    "prompt": ("prompt",),
}


def overrides(config: SynthesizeConfig, possible: Mapping[Group, Sequence[str]]) -> dict[Group, str]:
    """The config's routes for single groups. Raises ValueError for an unknown group or an impossible route."""
    names: dict[str, list[Group]] = {}
    for group in possible:
        names.setdefault(f"{group.label}/{group.attribute}", []).append(group)
    for name, route in config.routes.items():
        if name not in names:
            raise ValueError(f"synthesize.routes names {name!r}, but the groups are: {enumerated(sorted(names))}")
        if len(names[name]) > 1:
            raise ValueError(
                f"synthesize.routes names {name!r}, which are {len(names[name])} groups: choose other names"
            )
        if route not in possible[names[name][0]]:
            raise ValueError(
                f"synthesize.routes wants {route!r} for {name!r}, but there is no adapter for that; "
                f"possible: {', '.join(possible[names[name][0]])}"
            )
    return {names[name][0]: route for name, route in config.routes.items()}


def to_try(possible: Mapping[Group, Sequence[str]], config: SynthesizeConfig) -> list[tuple[Group, str]]:
    """The routes to make trial batches by: those that the rule compares, and those of ``also_try``."""
    if config.routing != "auto":
        return []
    # An attribute without any adapter has prompts alone: they are tried only if they might not do.
    without = {group.attribute for group, routes in possible.items() if not {*_ALIKE, "shared"} & {*routes}}
    prompts = {"prompt"} if config.min_shown else set[str]()
    return [
        (group, route)
        for group in sorted(possible)
        for route in possible[group]
        if route in (prompts if group.attribute in without else {*_ALIKE, "shared", "prompt", *config.also_try})
    ]


def _first(possible: Sequence[str], preferred: Sequence[str]) -> Route:
    name = next((name for name in preferred if name in possible), "prompt")
    why = "synthesize.routing" if name == preferred[0] else f"synthesize.routing; {preferred[0]} is not possible"
    return Route(name, why)


class _Way(NamedTuple):
    """One way to make all groups of an attribute: each one's route, and the trial batch that shows its group least."""

    name: str
    routes: Mapping[Group, str]
    worst: TrialBatch


def _alike(
    members: Sequence[Group],
    possible: Mapping[Group, Sequence[str]],
    trials: Mapping[tuple[Group, str], TrialBatch],
    config: SynthesizeConfig,
    least: float,
) -> dict[Group, Route]:
    ways = _ways(members, possible, trials, config, least)
    if not ways:
        return {group: Route("prompt", "no group with this attribute has an adapter") for group in members}
    chosen = ways[0]
    for way in ways[1:]:
        if _only(way.worst, chosen.worst, least) or clearly_less(chosen.worst, way.worst, config.prompt_margin):
            chosen = way
    only = shows(chosen.worst, least) and sum(shows(way.worst, least) for way in ways) == 1
    figures = ", ".join(f"{way.worst.agreement:.0%} {way.name}" for way in ways)
    how = f"only {chosen.name} all are shown" if only else chosen.name
    why = f"groups of an attribute are made alike, {how}; worst group {figures}"
    return {group: Route(route, why) for group, route in chosen.routes.items()}


def _ways(
    members: Sequence[Group],
    possible: Mapping[Group, Sequence[str]],
    trials: Mapping[tuple[Group, str], TrialBatch],
    config: SynthesizeConfig,
    least: float,
) -> list[_Way]:
    """The ways to make all groups of an attribute, those of preference first; none if only prompts can."""
    adapted = {group: _by_adapters(group, possible[group], trials, config.prompt_margin, least) for group in members}
    by = {"by the shared adapter": {group: "shared" for group in members if "shared" in possible[group]}}
    by["by the attribute's adapters"] = {group: route for group, route in adapted.items() if route}
    if not any(len(routes) == len(members) for routes in by.values()):
        return []
    by["by prompts"] = dict.fromkeys(members, "prompt")
    return [
        _Way(name, routes, min((trials[group, route] for group, route in routes.items()), key=lambda t: t.agreement))
        for name, routes in by.items()
        if len(routes) == len(members)
    ]


def _by_adapters(
    group: Group,
    possible: Sequence[str],
    trials: Mapping[tuple[Group, str], TrialBatch],
    margin: float,
    least: float,
) -> str | None:
    """Own adapters, unless those of the same attribute show the group clearly better; None without either."""
    routes = [route for route in _ALIKE if route in possible]
    if len(routes) == 2:
        own, lent = (trials[group, route] for route in routes)
        if clearly_less(own, lent, margin) or _only(lent, own, least):
            return "same-attribute"
    return routes[0] if routes else None


def _only(one: TrialBatch, other: TrialBatch, least: float) -> bool:
    """Whether the first of two routes shows its group, and the second does not."""
    return shows(one, least) and not shows(other, least)

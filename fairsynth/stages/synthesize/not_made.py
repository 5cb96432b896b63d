"""Which groups are not made, and why: images that do not show their group do harm.

A group is not made if the filter's probe does not know it (``by_probe``), if no route shows it (``by_trials``), or if so
few of its images show it that many of those that pass the probe would be the probe's errors (``by_likely``). The other
groups with its attribute are not made then either (``alike``): if only some labels of an attribute had synthetic images,
how real an image looks would give its label away. A route that ``synthesize.routes`` names is always obeyed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.models.probe import ENOUGH, Recognised, unrecognised
from fairsynth.stages.synthesize.output import Reason
from fairsynth.stages.synthesize.routing import Route
from fairsynth.stages.synthesize.trial_batches import TrialBatch, likely_right, shows


class NotMade(NamedTuple):
    """Why a group is not made: a word for programs, and a clause for people."""

    reason: Reason
    why: str


def by_probe(recognised: Mapping[Group, Recognised], min_recognised: float) -> dict[Group, NotMade]:
    """Groups whose real images the probe recognises too rarely for its word to count."""
    return {
        group: NotMade(
            "probe",
            f"the filter's probe recognises {found.right} of {found.judged} real images of it that it has not learnt "
            f"from, and {min_recognised:.0%} are needed (filter.min_recognised)",
        )
        for group, found in unrecognised(recognised, min_recognised).items()
    }


def by_trials(
    routes: Mapping[Group, Route], trials: Mapping[tuple[Group, str], TrialBatch], least: float
) -> dict[Group, NotMade]:
    """Groups that their route does not show (see ``trial_batches.shows``); a route that was not tried is trusted."""
    return {
        group: NotMade(
            "trial",
            f"its trial batches do not show it: {_figures(group, trials)}; by the lower end of the 95 % interval "
            f"{least:.0%} are needed (synthesize.min_shown)",
        )
        for group, route in sorted(routes.items())
        if (trial := trials.get((group, route.name))) and not shows(trial, least)
    }


def by_likely(
    routes: Mapping[Group, Route],
    trials: Mapping[tuple[Group, str], TrialBatch],
    recognised: Mapping[Group, Recognised],
    mistaken: Mapping[Group, float],
    min_right: float,
) -> dict[Group, NotMade]:
    """Groups of whose images too many would pass the probe though they do not show them: see ``likely_right``.

    Groups that the probe was not judged on are left to the trial batches.
    """
    found = {}
    for group, route in sorted(routes.items()):
        trial, known = trials.get((group, route.name)), recognised.get(group)
        if trial is None or known is None or known.judged < ENOUGH or group not in mistaken:
            continue
        share = likely_right(trial, known, mistaken[group])
        if share < min_right:
            why = (
                f"its trial batch shows it too rarely for the probe's errors: {_figures(group, trials)}, and of another "
                f"group's real images the probe takes up to {mistaken[group]:.0%} for it; so about {share:.0%} of those "
                f"that pass would show it, and {min_right:.0%} are needed (filter.min_right)"
            )
            found[group] = NotMade("unsure", why)
    return found


def _figures(group: Group, trials: Mapping[tuple[Group, str], TrialBatch]) -> str:
    its = {route: trial for (of, route), trial in trials.items() if of == group}
    return ", ".join(f"{trial.right} of {trial.made} images by {route}" for route, trial in its.items())


def alike(found: Mapping[Group, NotMade], real: Mapping[Group, int], groups: Collection[Group]) -> dict[Group, NotMade]:
    """Those of ``groups`` that share an attribute with a group that is not made, though it has ``real`` images."""
    also: dict[Group, NotMade] = {}
    for group in sorted(set(groups) - found.keys()):
        others = [str(other) for other in sorted(found) if other.attribute == group.attribute and real.get(other)]
        if others:
            why = f"groups of an attribute are made alike: {enumerated(others)} cannot be shown"
            also[group] = NotMade("alike", why)
    return also

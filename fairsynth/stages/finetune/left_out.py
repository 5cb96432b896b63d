"""Groups that get no adapter, because it is known before anything is trained that their images will not be made.

A group whose real images the filter's probe does not recognise is not made, nor are the others with its attribute (see
``fairsynth.stages.synthesize.not_made``). The probe learns from real images alone; so what their adapters would cost need not
be spent to find that out.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairsynth.config import RunConfig, SynthesizeConfig
from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised, unrecognised

# Routes by which groups of one attribute are made by adapters of another.
_OF_THE_LABEL = frozenset({"same-label", "same-label-half", "same-label-late", "composed"})


LeftOut = Mapping[str, Mapping[Group, Recognised]]
"""The attributes whose groups get no adapter, and the groups of each that the probe does not recognise."""


def left_out(config: RunConfig, recognised: Mapping[Group, Recognised]) -> LeftOut:
    """Whose adapters need not be trained. ``recognised``: of groups with training images.

    Nobody's, where that is not sure: an adapter may serve another attribute, the config names a route for a group of the
    attribute, or it has groups made that have no training images, or not those that have many (``synthesize.fill``).
    """
    how, found = config.synthesize, dict[str, dict[Group, Recognised]]()
    if how.fill or how.absent_groups == "make" or config.finetune.generator == "vanilla" or _serves_others(how):
        return found
    for group, its in unrecognised(recognised, config.filter.least_recognised).items():
        if not any(name.endswith(f"/{group.attribute}") for name in how.routes):
            found.setdefault(group.attribute, {})[group] = its
    return found


def left_out_remarks(found: LeftOut, least: float) -> list[str]:
    """For people: which groups, why, and what to set if they are to be trained all the same."""
    return [
        f"no adapters for {attribute}, whose groups will not be made: the filter's probe recognises too few real images, of "
        f"{enumerated([f'{group} {its.right} of {its.judged}' for group, its in groups.items()])}, and {least:.0%} are "
        "needed; --filter.min_recognised 0 trains them all the same"
        for attribute, groups in found.items()
    ]


def _serves_others(how: SynthesizeConfig) -> bool:
    return how.routing == "paper" or bool(_OF_THE_LABEL & {*how.also_try, *how.routes.values()})

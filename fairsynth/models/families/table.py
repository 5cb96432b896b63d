"""Which families there are, by the class of their pipeline in diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.models.families.family import Family
from fairsynth.models.families.flux2 import Flux2Klein
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.families.sd3 import StableDiffusion3
from fairsynth.models.families.sdxl import StableDiffusionXL
from fairsynth.models.families.zimage import ZImage

FAMILIES: Mapping[str, Family] = {
    family.pipeline_class: family
    for family in (
        StableDiffusion(),
        StableDiffusionXL(),
        StableDiffusion3(),
        Flux2Klein(),
        ZImage(),
    )
}


FIRST = next(iter(FAMILIES.values()))
"""The family whose values are the defaults of settings."""


def family_named(name: str) -> Family:
    """The family of a name. Raises ValueError for one that there is not."""
    for family in FAMILIES.values():
        if family.name == name:
            return family
    raise ValueError(f"there is no family of base models of the name {name[:40]!r}")


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline. Raises KeyError if it has none."""
    return FAMILIES[type(pipeline).__name__]

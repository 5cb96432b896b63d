"""Adapters of three groups of four, and the routes by which the groups can be made."""

from __future__ import annotations

from typing import Any

from fairsynth.config import DataConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.stages.finetune.output import Adapter
from fairsynth.stages.synthesize.routes import possible_routes

LB, LF, HB, HF = (Group(label, attribute) for label in ("low", "high") for attribute in ("building", "flower"))
ADAPTERS = (
    Adapter("low--building--0", LB, 0, "a photo of a sks low, building", 192, "sks"),
    Adapter("low--building--1", LB, 1, "a photo of a ohwx low, building", 300, "ohwx"),
    Adapter("high--flower--0", HF, 0, "a photo of a sks high, flower", 506, "sks"),
)
CONFIG = SynthesizeConfig(negative_prompt="blur", guidance=6.0, borrow_guidance=3.0)
PLAIN, TEMPLATE = DataConfig(), "a photo of a {token} {label}, {attribute}"


def possible(
    adapters: tuple[Adapter, ...] = ADAPTERS,
    groups: tuple[Group, ...] = (LB, LF, HB, HF),
    shared_guidance: float | None = None,
) -> Any:
    """The names of each group's possible routes."""
    how = dict.fromkeys(groups, 1), CONFIG, PLAIN, TEMPLATE, shared_guidance
    return {group: list(possible_routes(group, adapters, *how)) for group in groups}

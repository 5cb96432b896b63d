"""What cards say of the base model: how diffusers calls it, and its licence."""

from __future__ import annotations

from typing import NamedTuple

from fairsynth.config import RunConfig
from fairsynth.exports.terms import terms_in_words
from fairsynth.models.hub.recognise import known_or_first
from fairsynth.models.sources import public_name


class BaseFacts(NamedTuple):
    """A base model for people, and for code that they copy."""

    pipeline: str
    """Class of its pipeline in diffusers."""
    scheduler: str
    """Class of the scheduler that the config takes, and how it is made where that is not by the model's own configuration."""
    guidance: str
    """How its pipeline is given the guidance of a row, as Python."""
    negative: str
    """The same of the negative prompt of a row."""
    options: tuple[str, ...]
    """What its pipeline must be told besides, as Python."""
    tag: str
    """What model hubs call models of the kind."""
    terms: str
    """Its licence and what that says, without a full stop."""


def base_facts(config: RunConfig) -> BaseFacts:
    """The facts of a config's base model."""
    base = known_or_first(config.models)
    family = base.family
    return BaseFacts(
        family.pipeline_class,
        family.scheduler_words(config.synthesize.scheduler) + _few_steps(config.synthesize.few_steps),
        family.guidance_option.format('row["guidance"]'),
        family.negative_option.format('row["negative_prompt"]'),
        family.call_options(base.pipeline),
        family.tag,
        terms_in_words(config),
    )


def _few_steps(name: str | None) -> str:
    """What was added to the base before any adapter."""
    return (
        f" and the weights of {public_name(name)} added to its network (load_lora_weights, fuse_lora)" if name else ""
    )

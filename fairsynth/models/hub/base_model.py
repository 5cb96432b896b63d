"""What a base model means for a run before anything is loaded: its own values of settings, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairsynth.config import RunConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.families.family import Family
from fairsynth.models.families.table import FIRST
from fairsynth.models.hub.few_steps import OPEN, SCHEDULER
from fairsynth.models.hub.recognise import base_family, require_trainable

# Beginnings of hub ids of the first family, whose values are the defaults.
_USUAL = (
    "stable-diffusion-v1-5/",
    "runwayml/stable-diffusion",
    "compvis/stable-diffusion",
    "stabilityai/stable-diffusion-2",
    "sd2-community/",
)


def with_base(config: RunConfig) -> RunConfig:
    """The config with its base model's own values of what it leaves open: the images' side, adapted layers, the scheduler; and
    with those of a few-step sampler, if it names one.

    Raises ConfigError for a model that is not supported, that cannot do what the config asks of it, or whose own values cannot
    be had and are needed.
    """
    try:
        family = base_family(config.models)
    except OSError as error:
        return _filled(_without_model(config, error), _few_steps(config, FIRST))
    config = _filled(config, _own(family), _few_steps(config, family))
    family.require_scheduler(config.synthesize.scheduler)
    if config.finetune.generator != "vanilla":
        require_trainable(config.models)
    return config


def _without_model(config: RunConfig, error: OSError) -> RunConfig:
    """The config as it is, if it leaves nothing open, or if its defaults are the model's: those of Stable Diffusion 1.x, 2.x."""
    defaults = _own(FIRST)
    left_open = [
        f"{name}.{key}"
        for name, values in defaults.items()
        for key in values
        if key not in getattr(config, name).model_fields_set
    ]
    if left_open and not config.models.diffusion.casefold().startswith(_USUAL):
        raise ConfigError(
            f"models.diffusion: {printable(' '.join(str(error).split()))}, so its own {', '.join(left_open)} are not known; "
            f"fetch it before (hf download {printable(config.models.diffusion)}), or set them"
        ) from error
    return config


def _own(family: Family) -> Mapping[str, Mapping[str, Any]]:
    """The settings that a base model has values of its own for, by section."""
    return {
        "models": {"image_size": family.image_size},
        "finetune": {"target_modules": family.targets},
        "shared": {"target_modules": family.shared_targets},
        "synthesize": {"scheduler": family.schedulers[0]},
    }


def _few_steps(config: RunConfig, family: Family) -> Mapping[str, Mapping[str, Any]]:
    """The same of a few-step sampler, if the config names one; where none is for the family, it is refused later."""
    return OPEN if config.synthesize.few_steps is not None and SCHEDULER in family.schedulers else {}


def _joined(own: Sequence[Mapping[str, Mapping[str, Any]]]) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in own:
        for name, values in one.items():
            found.setdefault(name, {}).update(values)
    return found


def _filled(config: RunConfig, *own: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """The config with these values of what it leaves open, later ones before earlier ones."""
    changed = {}
    for name, values in _joined(own).items():
        section = getattr(config, name)
        # A value that is the default's, too, stays open: another base model may be set later.
        left_open = {key for key, value in values.items() if value != getattr(section, key)} - section.model_fields_set
        if left_open:
            changed[name] = section.model_copy(update={key: values[key] for key in left_open})
    return config.model_copy(update=changed)

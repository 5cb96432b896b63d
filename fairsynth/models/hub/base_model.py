"""What a base model means for a run before anything is loaded: its own values of settings, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.config import RunConfig
from fairsynth.models.families.family import Family
from fairsynth.models.hub.recognise import base_family, require_trainable


def with_base(config: RunConfig) -> RunConfig:
    """The config with its base model's own values of what it leaves open: the images' side, adapted layers, the scheduler.

    Where the model cannot be had the config stays as it is: whoever loads the model says so. Raises ConfigError for a model
    that is not supported, or that cannot do what the config asks of it.
    """
    try:
        family = base_family(config.models)
    except OSError:
        return config
    config = _filled(config, family)
    family.require_scheduler(config.synthesize.scheduler)
    if config.finetune.generator != "vanilla":
        require_trainable(config.models)
    return config


def _filled(config: RunConfig, family: Family) -> RunConfig:
    own: Mapping[str, Mapping[str, Any]] = {
        "models": {"image_size": family.image_size},
        "finetune": {"target_modules": family.targets},
        "shared": {"target_modules": family.shared_targets},
        "synthesize": {"scheduler": family.schedulers[0]},
    }
    changed = {}
    for name, values in own.items():
        section = getattr(config, name)
        # A value that is the default's, too, stays open: another base model may be set later.
        left_open = {key for key, value in values.items() if value != getattr(section, key)} - section.model_fields_set
        if left_open:
            changed[name] = section.model_copy(update={key: values[key] for key in left_open})
    return config.model_copy(update=changed)

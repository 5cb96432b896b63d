"""What a base model means for a run before anything is loaded: its own values of settings, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairsynth.config import ModelsConfig, RunConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.families.family import Family
from fairsynth.models.hub.recognise import Recognised, recognised
from fairsynth.models.sources import diffusion_source

# Beginnings of names of models that were distilled to few steps, of which no file of theirs says so.
_FEW_STEPS = (
    "stabilityai/sd-turbo",
    "stabilityai/sdxl-turbo",
    "stabilityai/stable-diffusion-3.5-large-turbo",
    "black-forest-labs/flux.1-schnell",
    "tongyi-mai/z-image-turbo",
)


def with_base(config: RunConfig) -> RunConfig:
    """The config with its base model's own values of what it leaves open: the images' side, adapted layers, the scheduler.

    Where the model cannot be had the config stays as it is: whoever loads the model says so. Raises ConfigError for a model
    that is not supported, or that cannot do what the config asks of it.
    """
    try:
        base = recognised(config.models)
    except OSError:
        return config
    config = _filled(config, base.family)
    _check_scheduler(config, base.family)
    _check_training(config, base)
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


def _check_scheduler(config: RunConfig, family: Family) -> None:
    scheduler = config.synthesize.scheduler
    if scheduler not in family.schedulers:
        raise ConfigError(
            f"synthesize.scheduler is {scheduler}, but {family.title} is denoised by {' or '.join(family.schedulers)}; set "
            f"--synthesize.scheduler {family.schedulers[0]}, or leave it out"
        )


def _check_training(config: RunConfig, base: Recognised) -> None:
    """Raise ConfigError for a model that is to be trained and was distilled to few steps: training would undo that."""
    if config.finetune.generator == "vanilla":
        return
    few = "was distilled to few steps" if origin(config.models, base).casefold().startswith(_FEW_STEPS) else ""
    why = few or base.family.untrainable(base.network, base.index)
    if why:
        raise ConfigError(
            f"models.diffusion: {printable(config.models.diffusion)!r} {why}, so no adapters are trained on it; give the model "
            "that it was made from, or make images by it as it is: --finetune.generator vanilla"
        )


def origin(models: ModelsConfig, base: Recognised) -> str:
    """The name that the hub has for the base model: its id; of a folder the one that it says it comes from, perhaps none."""
    is_folder = Path(diffusion_source(models)).expanduser().is_dir()
    return str(base.index.get("_name_or_path", "")) if is_folder else models.diffusion

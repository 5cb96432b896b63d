"""What is wrong with the models that a config names, as far as it shows before any of their weights are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.families.family import Family
from fairsynth.models.hub.foreign import check_folder
from fairsynth.models.hub.recognise import recognised
from fairsynth.models.sources import DEMO, SMALL, clip_source, diffusion_source, side_problem


def check_sources(models: ModelsConfig, classify: ClassifyConfig) -> None:
    """Raise ConfigError for models that ``check_places`` or ``check_base`` refuses."""
    check_places(models, classify)
    check_base(models)


def check_places(models: ModelsConfig, classify: ClassifyConfig) -> None:
    """Raise ConfigError for a model path that does not exist or names what is not to be loaded (``models.hub.foreign``), and for
    a backbone that is no ResNet.
    """
    for key, source in (
        ("models.diffusion", diffusion_source(models)),
        ("models.clip", clip_source(models)),
        ("classify.backbone", classify.backbone),
    ):
        looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
        if looks_local and not Path(source).expanduser().is_dir():
            raise ConfigError(
                f"{key}: folder {source!r} does not exist; give a folder in save_pretrained layout, a hub id or "
                f"{SMALL if key == 'classify.backbone' else DEMO!r}"
            )
        if source != SMALL and Path(source).expanduser().is_dir():
            check_folder(key, Path(source).expanduser())
    if classify.backbone != SMALL:
        _check_backbone(Path(classify.backbone).expanduser())


def check_base(models: ModelsConfig) -> None:
    """Raise ConfigError for a base model of an unknown kind, that names what is not to be loaded, or that makes no images of
    ``models.image_size``.

    Of a hub id that is looked at which the cache has of its description, or the hub at once; all is, when it loads, before any
    weights.
    """
    try:
        base = recognised(models)
    except OSError:
        return  # a hub id that cannot be had now: whoever loads it says so
    check_folder("models.diffusion", base.folder)
    _check_side(base.family, base.folder, models)
    _check_scheduler(base.family, base.folder / "scheduler" / "scheduler_config.json", models)


def _check_backbone(folder: Path) -> None:
    """Raise ConfigError for a folder with another kind of network than ResNet: as one it would begin with random weights."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # a hub id, or its loader says what is wrong
    if kind != "resnet":
        raise ConfigError(
            f"classify.backbone: {str(folder)!r} is a network of the kind {kind!r}; give a ResNet of transformers, or "
            f"{SMALL!r}; docs/extending.md says how to bring another kind"
        )


def _check_side(family: Family, folder: Path, models: ModelsConfig) -> None:
    """Raise ConfigError for a side that the base model's images cannot have: it would be found out after the training."""
    factor, most = sides(family, folder)
    if factor and models.image_size % factor:
        raise ConfigError(side_problem(models.image_size, factor))
    if most and models.image_size > most:
        raise ConfigError(
            f"models.image_size is {models.image_size}; the base model knows no place beyond {most} pixels: set "
            f"--models.image_size {most} or less"
        )


def sides(family: Family, folder: Path) -> tuple[int | None, int | None]:
    """What the sides of a model's images are multiples of, and the longest; None where its files do not say."""
    of_parts = _content(folder, "vae"), _content(folder, family.network)
    return family.size_factor(*of_parts), family.most_side(*of_parts)


def _content(folder: Path, part: str) -> Mapping[str, Any]:
    """The configuration of a part; empty if it cannot be read: its loader says what is wrong."""
    try:
        content = json.loads((folder / part / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_scheduler(family: Family, file: Path, models: ModelsConfig) -> None:
    """Raise ConfigError for a scheduler that cannot be read or is not known; no file is for the loader to complain of."""
    try:
        scheduler = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        family.check_schedule(scheduler, models.diffusion)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"models.diffusion: {str(file)!r} is no scheduler's configuration ({error})") from error

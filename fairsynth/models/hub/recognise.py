"""Which family a base model is of, by its ``model_index.json``: known before any of its weights are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from fairsynth.config import ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import enumerated, printable
from fairsynth.models.families.family import Family, has_part
from fairsynth.models.families.table import FAMILIES, FIRST
from fairsynth.models.hub.at_hand import INDEX, described, fetched
from fairsynth.models.sources import diffusion_source

# Longer ones are no configuration: they are read whole, and parsed.
_MOST_BYTES = 2**20
_KEY = "models.diffusion"
# Beginnings of names of models that were distilled to few steps, of which no file of theirs says so.
_FEW_STEPS = (
    "stabilityai/sd-turbo",
    "stabilityai/sdxl-turbo",
    "stabilityai/stable-diffusion-3.5-large-turbo",
    "tongyi-mai/z-image-turbo",
)


class Recognised(NamedTuple):
    """A base model's family, and what it says of itself: its network's configuration, and ``model_index.json``."""

    family: Family
    network: Mapping[str, Any]
    pipeline: Mapping[str, Any]
    folder: Path
    """Where its JSON files are, or some of them."""


def base_family(models: ModelsConfig) -> Family:
    """The family of the base model; of a hub id that is not in the cache the JSON files are fetched, and no weights.

    Raises ConfigError for a model of no known family, or that its family cannot use; OSError if it cannot be had.
    """
    return recognised(models).family


def recognised(models: ModelsConfig) -> Recognised:
    """The base model. Raises as ``base_family``."""
    return _recognised(diffusion_source(models), models.diffusion_revision, models.diffusion)


def family_if_known(models: ModelsConfig) -> Family | None:
    """The same; None where the model cannot be had: whoever loads it says so."""
    try:
        return base_family(models)
    except OSError:
        return None


def known_or_first(models: ModelsConfig) -> Recognised:
    """The base model for people who read of a finished run: where it cannot be had, or is broken, by now, of the first family."""
    try:
        return recognised(models)
    except (OSError, ConfigError):
        return Recognised(FIRST, {}, {}, Path())


def require_trainable(models: ModelsConfig) -> None:
    """Raise ConfigError for a base model that images are made with, but that is not trained further; and as ``base_family``."""
    base = recognised(models)
    few = "was distilled to few steps" if origin(models, base).casefold().startswith(_FEW_STEPS) else ""
    why = few or base.family.untrainable(base.network, base.pipeline)
    if why:
        raise ConfigError(
            f"{_KEY}: {printable(models.diffusion)!r} {why}, so no adapters are trained on it; give the model that it was made "
            "from, or make images by it as it is: --finetune.generator vanilla"
        )


def origin(models: ModelsConfig, base: Recognised) -> str:
    """The name that the hub has for the base model: its id; of a folder the one that it says it comes from, perhaps none."""
    is_folder = Path(diffusion_source(models)).expanduser().is_dir()
    return str(base.pipeline.get("_name_or_path", "")) if is_folder else models.diffusion


@cache
def _recognised(source: str, revision: str | None, name: str) -> Recognised:
    folder = described(source, revision)
    index = _read(folder / INDEX, name)
    family = FAMILIES.get(str(index.get("_class_name")))
    if family is None:
        raise ConfigError(
            f"{_KEY}: {printable(name)!r} is a {printable(str(index.get('_class_name'))[:80])}, which is not supported; give "
            f"{supported()}"
        )
    for part, asked in family.parts.items():
        if asked.needed and not has_part(index, part):
            raise ConfigError(
                f"{_KEY}: {printable(name)!r} has no {part}, which {family.title} needs; give a whole pipeline, as "
                "save_pretrained writes it"
            )
    if not (folder / family.network / "config.json").is_file():
        folder = fetched(source, revision)
    network = _read(folder / family.network / "config.json", name)
    why = family.unusable(network, index)
    if why:
        raise ConfigError(f"{_KEY}: {printable(name)!r} {why}; choose another base model")
    return Recognised(family, network, index, folder)


def supported() -> str:
    """The kinds of base models that there are, for people."""
    return enumerated([f"{family.title} ({family.pipeline_class})" for family in FAMILIES.values()], most=20)


def _read(file: Path, name: str) -> Mapping[str, Any]:
    """The content of a model's JSON file. Raises ConfigError if it is none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("too long for a configuration")
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{_KEY}: {printable(name)!r} has no usable {file.name} ({printable(' '.join(str(error).split())[:200])}); give a "
            f"folder as save_pretrained writes it, or a hub id, of {supported()}"
        ) from error
    return content

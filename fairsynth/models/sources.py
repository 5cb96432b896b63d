"""Where pretrained models come from, and which exact version a result depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError

DEMO = "demo"
# Base models in the package, by the word that stands for each: where they are.
_IN_PACKAGE = {DEMO: "diffusion", "demo-flow": "flow"}
# The backbone that begins with random weights; a folder of that name is none.
SMALL = "small"


def demo_folder(name: str) -> Path:
    """Folder of a model in the package: ``clip``, ``diffusion``, ``flow`` or ``judge``."""
    return Path(str(resources.files("fairsynth") / "demo" / "weights" / name))


def diffusion_source(models: ModelsConfig) -> str:
    """Hub id or folder of the base model's pipeline."""
    return str(demo_folder(_IN_PACKAGE[models.diffusion])) if is_demo(models.diffusion) else models.diffusion


def is_demo(model: str) -> bool:
    """Whether a word stands for a base model in the package, of a few megabytes."""
    return model in _IN_PACKAGE


def in_package(model: str) -> str:
    """The name of that model's folder there."""
    return _IN_PACKAGE[model]


def clip_source(models: ModelsConfig) -> str:
    """Hub id or folder of the CLIP model."""
    return str(demo_folder("clip")) if models.clip == DEMO else models.clip


def check_whole(backbone: str, missing: Iterable[str]) -> None:
    """Raise ConfigError for a backbone that lacks weights: they would be random, and nothing would say so."""
    lacking = sorted(missing)
    if lacking:
        raise ConfigError(
            f"classify.backbone: {backbone!r} lacks {len(lacking)} of a ResNet's weights, first {lacking[0]}; give a ResNet "
            "of transformers with all its weights"
        )


def side_problem(size: int, factor: int) -> str:
    """What to tell of a side that is no multiple of the pixels that a latent stands for."""
    near = max(factor, round(size / factor) * factor)
    return f"models.image_size is {size}; the base model needs a multiple of {factor}: set --models.image_size {near}"


def revision(source: str, pinned: str | None) -> str:
    """Identity of the weights: the pinned commit of a hub id, or a hash of a folder's files."""
    folder = Path(source).expanduser()
    return _folder_hash(str(folder)) if folder.is_dir() else f"{source}@{pinned or 'main'}"


def backbone_revision(classify: ClassifyConfig) -> str:
    """Identity of the weights that a classifier begins with."""
    pinned = classify.backbone_revision
    return f"{SMALL}@{pinned or 'main'}" if classify.backbone == SMALL else revision(classify.backbone, pinned)


def base_of(models: ModelsConfig) -> dict[str, str]:
    """The model that adapters belong to: its public name, and which version of it."""
    name, version = public_name(models.diffusion), revision(diffusion_source(models), models.diffusion_revision)
    # Of a folder that is elsewhere the version has the path in it.
    return {"base_model": name, "base_revision": version.replace(models.diffusion, name)}


@cache
def _folder_hash(folder: str) -> str:
    total = hashlib.sha256()
    for path in sorted(
        p
        for p in Path(folder).rglob("*")
        if p.is_file() and p.suffix in (".json", ".safetensors", ".txt", ".jinja", ".model")
    ):
        total.update(path.relative_to(folder).as_posix().encode())
        with open(path, "rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()[:16]


def public_name(model: str) -> str:
    """A model's name without the folders of this machine."""
    return Path(model).name if is_local(model) else model


def is_local(model: str) -> bool:
    """Whether a model is a folder of this machine, or of another, and no name on the hub."""
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model
    return not is_demo(model) and (looks_local or Path(model).exists())

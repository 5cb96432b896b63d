"""Where pretrained models come from, and which exact version a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.hub.foreign import check_folder
from fairsynth.models.schedule import check_prediction

DEMO = "demo"
# The backbone that begins with random weights; a folder of that name is none.
SMALL = "small"
# More halvings than any image has; what says more is left to its loader, which refuses it.
_MOST_HALVINGS = 16


def demo_folder(name: str) -> Path:
    """Folder of a model in the package: ``clip``, ``diffusion``, ``flow`` or ``judge``."""
    return Path(str(resources.files("fairsynth") / "demo" / "weights" / name))


def diffusion_source(models: ModelsConfig) -> str:
    """Hub id or folder of the Stable Diffusion pipeline."""
    return str(demo_folder("diffusion")) if models.diffusion == DEMO else models.diffusion


def clip_source(models: ModelsConfig) -> str:
    """Hub id or folder of the CLIP model."""
    return str(demo_folder("clip")) if models.clip == DEMO else models.clip


def check_sources(models: ModelsConfig, classify: ClassifyConfig) -> None:
    """Raise ConfigError for a model path that does not exist or names what is not to be loaded (``models.hub.foreign``), or a
    base model whose kind of prediction is unknown.

    Hub ids are checked when they load, the kind of prediction before any weights.
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
    _check_side(Path(diffusion_source(models)).expanduser(), models)
    _check_scheduler(Path(diffusion_source(models)).expanduser() / "scheduler" / "scheduler_config.json", models)


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


def check_whole(backbone: str, missing: Iterable[str]) -> None:
    """Raise ConfigError for a backbone that lacks weights: they would be random, and nothing would say so."""
    lacking = sorted(missing)
    if lacking:
        raise ConfigError(
            f"classify.backbone: {backbone!r} lacks {len(lacking)} of a ResNet's weights, first {lacking[0]}; give a ResNet "
            "of transformers with all its weights"
        )


def _check_side(folder: Path, models: ModelsConfig) -> None:
    """Raise ConfigError for a side that the base model's images cannot have: it would be found out after the training."""
    try:
        blocks = json.loads((folder / "vae" / "config.json").read_text("utf-8"))["block_out_channels"]
        factor = 2 ** (len(blocks) - 1)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # a hub id, whose images nobody knows yet; or its loader says what is wrong
    if len(blocks) <= _MOST_HALVINGS and models.image_size % factor:
        raise ConfigError(side_problem(models.image_size, factor))


def side_problem(size: int, factor: int) -> str:
    """What to tell of a side that is no multiple of the pixels that a latent stands for."""
    near = max(factor, round(size / factor) * factor)
    return f"models.image_size is {size}; the base model needs a multiple of {factor}: set --models.image_size {near}"


def _check_scheduler(file: Path, models: ModelsConfig) -> None:
    """Raise ConfigError for a scheduler that cannot be read or is not known; no file is for the loader to complain of."""
    try:
        scheduler = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        check_prediction(scheduler, models.diffusion)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"models.diffusion: {str(file)!r} is no scheduler's configuration ({error})") from error


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
        p for p in Path(folder).rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors", ".txt")
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
    return model != DEMO and (looks_local or Path(model).exists())

"""What a model from elsewhere may say of itself, looked at before any library loads it.

Weights are safetensors, classes are those that the pipeline uses, and nothing names code. The libraries keep to most of
that by themselves, but not to all: an index of shards may name a pickle, which reaches ``torch.load`` (``weights_only``
alone stops it, hence the floor of torch in pyproject.toml), and ``attn_implementation`` may name a repository of
compiled code, which transformers fetches and runs where the package ``kernels`` is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fairsynth.errors import ConfigError
from fairsynth.models.families.table import FAMILIES

# Ways to compute attention that are in torch itself. Any other is a package of its own, or code from the hub.
_ATTENTION = (None, "eager", "sdpa", "flex_attention")
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_READ, _INDEX = ("config.json", "model_index.json"), ".index.json"
# Longer ones are no configuration: they are read whole, and parsed.
_MOST_BYTES = 64 * 2**20
_ADVICE = "get the model from whoever made it, or give another"


def require_safe(key: str, source: str, revision: str | None) -> None:
    """Raise ConfigError for a model that names code, a pickle or a file outside its folder; ``key``: its setting.

    ``source``: a folder or a hub id. Of a hub id the JSON files are fetched, and no weights. Raises OSError if it cannot be had.
    """
    check_folder(key, folder_of(source, revision))


def folder_of(source: str, revision: str | None) -> Path:
    """Where a model's JSON files are: its folder, or the cache, into which they are fetched. Raises OSError if they cannot be had."""
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else _fetched(source, revision)


def check_folder(key: str, folder: Path) -> None:
    """The same of a folder. What cannot be read is left to the loader, which says what is wrong with it."""
    named = (file for file in folder.rglob("*.json") if file.name in _READ or file.name.endswith(_INDEX))
    for file in sorted(named):
        content = _read(key, file)
        if not isinstance(content, Mapping):
            continue
        if file.name.endswith(_INDEX):
            _check_index(key, file, content.get("weight_map"))
        elif file.name == "model_index.json":
            _check_parts(key, file, content)
        elif file.name == "config.json":
            _check_config(key, file, content)


@cache
def _fetched(source: str, revision: str | None) -> Path:
    """The model's JSON files, in the cache; asked for once in a process."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=["*.json"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise OSError(f"{source} at {revision or 'main'} cannot be had: {' '.join(str(error).split())}") from error


def _read(key: str, file: Path) -> Any:
    try:
        if not file.is_file():
            return None
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigError(
                f"{key}: {str(file)!r} has more than {_MOST_BYTES >> 20} MiB, so it is no model's; {_ADVICE}"
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _check_index(key: str, file: Path, weight_map: Any) -> None:
    names = weight_map.values() if isinstance(weight_map, Mapping) else [weight_map]
    for name in names:
        plain = isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")
        if not plain:
            raise ConfigError(
                f"{key}: {str(file)!r} names {str(name)[:100]!r} as weights; only .safetensors files beside it are loaded; "
                f"{_ADVICE}"
            )


def _check_parts(key: str, file: Path, content: Mapping[str, Any]) -> None:
    family = FAMILIES.get(str(content.get("_class_name")))
    # Without its class it is no model's index; what a pipeline of another class has is for nobody to load.
    for part, (library, classes, needed) in (family.parts if family else {}).items():
        named = content.get(part)
        missing = named is None or (not needed and named == [None, None])
        if not missing and not (
            isinstance(named, list) and named[:1] == [library] and named[1:] in [[c] for c in classes]
        ):
            raise ConfigError(
                f"{key}: {str(file)!r} has {str(named)[:100]!r} as {part}; it must be {classes[0]} of {library}; {_ADVICE}"
            )
    scheduler = content.get("scheduler", ["diffusers", "Scheduler"])
    ours = isinstance(scheduler, list) and len(scheduler) == 2 and scheduler[0] == "diffusers"
    if not ours or not str(scheduler[1]).endswith("Scheduler") or not isinstance(content.get("_class_name", ""), str):
        raise ConfigError(f"{key}: {str(file)!r} names a class that is none of diffusers'; {_ADVICE}")


def _check_config(key: str, file: Path, content: Mapping[str, Any]) -> None:
    for name, value in _pairs(content):
        if name in _ATTENTION_KEYS and value not in _ATTENTION:
            raise ConfigError(
                f"{key}: {str(file)!r} has {name}: {str(value)[:100]!r}, which would fetch code; remove the line from the "
                f"file, or give another model"
            )
        if name == "transformers_weights" and not str(value).endswith((".safetensors", ".safetensors.index.json")):
            raise ConfigError(
                f"{key}: {str(file)!r} names {str(value)[:100]!r} as weights; only .safetensors are loaded; {_ADVICE}"
            )


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each key of a configuration and of those inside it."""
    inside: list[Any] = [content]
    while inside:
        node = inside.pop()
        if isinstance(node, Mapping):
            yield from node.items()
            inside.extend(node.values())
        elif isinstance(node, list):
            inside.extend(node)

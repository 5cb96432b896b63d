"""Where a model's own description is, without a long wait: its folder, the cache, or the hub if that answers at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fairsynth.models.hub.foreign import folder_of

INDEX = "model_index.json"
_SECONDS = 10.0


def described(source: str, revision: str | None) -> Path:
    """A folder with the ``model_index.json`` of a pipeline, and perhaps no other file of it.

    The cache comes first: what a model is does not change with its commits. Raises OSError if it cannot be had.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    return _cached(source, revision) or fetched(source, revision)


def fetched(source: str, revision: str | None) -> Path:
    """A folder with all JSON files of a pipeline. Raises OSError if they cannot be had, where no network is within seconds."""
    if not Path(source).expanduser().is_dir() and commit_on_hub(source, revision) is None:
        raise OSError(f"{source} at {revision or 'main'} is not in the cache, and the hub does not answer for it")
    return folder_of(source, revision)


@cache
def commit_on_hub(source: str, revision: str | None = None) -> str | None:
    """The commit that the hub has; None where it does not answer. One request: others are tried again for half a minute."""
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(source, revision=revision, timeout=_SECONDS).sha
    except Exception:  # whatever the hub and the network do: the loaders say what is wrong
        return None


def _cached(source: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source, INDEX, revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None

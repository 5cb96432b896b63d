"""Where a model's own description is, without a long wait: its folder, the cache, or the hub if that answers at once."""

from __future__ import annotations

from pathlib import Path

from fairsynth.models.hub.foreign import folder_of

INDEX = "model_index.json"
_SECONDS = 10.0
# What the hub answered in this process: a commit, None for no answer; or why there is none.
_COMMITS = dict[tuple[str, str | None], str | None]()
_NOT_THERE = dict[tuple[str, str | None], str]()


def described(source: str, revision: str | None) -> Path:
    """A folder with the ``model_index.json`` of a pipeline, and perhaps no other file of it.

    The cache comes first: what a model is does not change with its commits. Raises OSError if it cannot be had.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    index = cached(source, INDEX, revision)
    return index.parent if index else fetched(source, revision)


def fetched(source: str, revision: str | None) -> Path:
    """A folder with all JSON files of a pipeline. Raises OSError if they cannot be had, where no network is within seconds."""
    if not Path(source).expanduser().is_dir() and commit_on_hub(source, revision) is None:
        why = _NOT_THERE.get((source, revision), "the hub does not answer for it")
        raise OSError(f"{source} at {revision or 'main'} is not in the cache, and {why}")
    return folder_of(source, revision)


def commit_on_hub(source: str, revision: str | None) -> str | None:
    """The commit that the hub has; None where it has none, or does not answer. It is asked once, by one request: others are
    tried again for half a minute.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    asked = source, revision
    if asked in _COMMITS or asked in _NOT_THERE:
        return _COMMITS.get(asked)
    try:
        _COMMITS[asked] = HfApi().model_info(source, revision=revision, timeout=_SECONDS).sha
    except GatedRepoError:
        _NOT_THERE[asked] = "the hub gives it to those alone who have accepted its terms there (hf auth login)"
    except RevisionNotFoundError:
        _NOT_THERE[asked] = "the hub has no such commit of it: set --models.diffusion_revision null, or one that it has"
    except RepositoryNotFoundError:
        _NOT_THERE[asked] = "the hub has no model of this name, or not for you"
    except Exception:  # whatever the network does: the loaders say what is wrong
        _COMMITS[asked] = None
    return _COMMITS.get(asked)


def cached(source: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a model in its folder, or in the hub's cache, without asking the hub; None where it is not there.

    ``revision`` None: of the commit that the cache has for the hub's main branch.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    try:
        found = try_to_load_from_cache(source, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None

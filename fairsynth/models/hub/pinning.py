"""Which commit a hub id without a revision stands for: settled once, at the start, so that all nodes load the same.

The commit becomes part of the identity of what is made with it: where the hub's branch moves between two runs, no result of
the one is taken for one of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from fairsynth.config import RunConfig
from fairsynth.models.hub.at_hand import cached, commit_on_hub
from fairsynth.models.hub.few_steps import KEY as FEW_STEPS
from fairsynth.models.hub.few_steps import WEIGHTS
from fairsynth.models.sources import SMALL, clip_source, diffusion_source

# A small file that every model of the kind has.
_FILES = {
    "models.diffusion": "model_index.json",
    "models.clip": "config.json",
    "classify.backbone": "config.json",
    FEW_STEPS: WEIGHTS,
}


def pinned(config: RunConfig, say: Callable[[str], None] | None = None) -> RunConfig:
    """The config with a commit for every hub id that has no revision; ``say`` is told which.

    With ``say`` the hub is asked, and where it does not answer the cache, as the loaders do. Without, for those who only look
    at results, it is the cache first: what the last run of this machine took. Where neither knows, the setting stays null.
    """
    sections = {"models": config.models, "classify": config.classify, "synthesize": config.synthesize}
    for key, source in _without_revision(config):
        known = _commit_in_cache(source, _FILES[key])
        commit = (_asked(source, _FILES[key]) or known) if say else (known or _asked(source, _FILES[key]))
        if commit is None:
            continue
        section, name = f"{key}_revision".split(".")
        sections[section] = sections[section].model_copy(update={name: commit})
        if say:
            say(_told(key, source, commit, known))
    return config.model_copy(update=sections)


def _told(key: str, source: str, commit: str, before: str | None) -> str:
    if before in (None, commit):
        return f"note: {source} is taken at {commit}, its newest commit; --{key}_revision {commit} stays with it"
    return (
        f"note: {source} has moved from {before} to {commit}: what was made with the old one is made again; "
        f"--{key}_revision {before} goes on with the old one, --{key}_revision {commit} stays with the new one"
    )


def _without_revision(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Setting and hub id of each model that the hub may change."""
    models, classify, how = config.models, config.classify, config.synthesize
    for key, source, revision in (
        ("models.diffusion", diffusion_source(models), models.diffusion_revision),
        ("models.clip", clip_source(models), models.clip_revision),
        ("classify.backbone", classify.backbone, classify.backbone_revision),
        (FEW_STEPS, how.few_steps or SMALL, how.few_steps_revision),
    ):
        if revision is None and source != SMALL and not Path(source).expanduser().exists():
            yield key, source


def _commit_in_cache(source: str, file: str) -> str | None:
    """The commit that the cache has for the hub's main branch."""
    found = cached(source, file)
    return found.parent.name if found else None


@cache
def _asked(source: str, file: str) -> str | None:
    """The commit that the hub has, which is then the cache's, too: a run without a network finds it there."""
    from huggingface_hub import hf_hub_download

    if commit_on_hub(source, None) is None:
        return None
    try:
        return Path(hf_hub_download(source, file)).parent.name
    except Exception:  # whatever the hub and the network do: the loaders say what is wrong
        return None

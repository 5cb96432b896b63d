"""Whether the models of a run read all its prompts to their ends, before any of their weights are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from fairsynth.config import ModelsConfig, RunConfig
from fairsynth.groups import Group
from fairsynth.models.families.family import Family, Tokenizer
from fairsynth.models.families.lengths import require_whole
from fairsynth.models.hub.foreign import folder_of
from fairsynth.models.hub.recognise import family_if_known
from fairsynth.models.sources import clip_source, diffusion_source
from fairsynth.prompts import fill

_SHORTER_NEGATIVE = "shorten synthesize.negative_prompt; a word of another group may come behind it"


def check_prompts(config: RunConfig, labels: Sequence[str], attributes: Sequence[str]) -> None:
    """Raise DataError for a prompt of any group that the base model, or CLIP, would not read to its end.

    Loads tokenizers alone; one that cannot be had is left to whoever loads its model. Without ``attributes``, as long as
    they are not discovered, those are looked at that ``data.attribute_names`` names.
    """
    models = config.models
    groups = [Group(y, a) for y in labels for a in attributes or [*config.data.attribute_names] or [""]]
    family = family_if_known(models)
    for how in _tokenizers(family, models) if family else ():
        diffusion = _tokenizer(diffusion_source(models), how.folder, models.diffusion_revision, how.class_name)
        if diffusion is not None:
            limit = how.limit or diffusion.model_max_length
            require_whole(diffusion, _generated(config, groups), limit, "models.diffusion")
            require_whole(diffusion, _negative(config, groups), limit, "models.diffusion", _SHORTER_NEGATIVE)
    clip = _tokenizer(clip_source(models), "", models.clip_revision, "CLIPTokenizer")
    if clip is not None:
        compared = (fill(config.synthesize.prompt, config.data, group) for group in groups)
        require_whole(clip, compared, clip.model_max_length, "models.clip")


def _tokenizers(family: Family, models: ModelsConfig) -> list[Tokenizer]:
    """Those that the base model has: of a folder that is not there, transformers makes one that knows no words."""
    try:
        folder = folder_of(diffusion_source(models), models.diffusion_revision)
    except OSError:
        return []  # whoever loads the model says so
    return [how for how in family.tokenizers if (folder / how.folder).is_dir()]


def _generated(config: RunConfig, groups: Sequence[Group]) -> Iterator[str]:
    """What images are made by, and what adapters learn, with any rare token."""
    how = config.finetune
    tokens = ("", *how.rare_tokens) if how.generator != "lora" else ("",)
    for group in groups:
        yield fill(config.synthesize.prompt, config.data, group)
        if how.generator != "vanilla":
            yield from (fill(how.prompt, config.data, group, token) for token in tokens)


def _negative(config: RunConfig, groups: Sequence[Group]) -> Iterator[str]:
    """The negative prompt of all images, and with a word of a lender of adapters behind it."""
    common = config.synthesize.negative_prompt
    yield common
    if common and config.finetune.generator != "vanilla":
        words = sorted({fill(part, config.data, group) for group in groups for part in ("{label}", "{attribute}")})
        yield from (f"{common}, {word}" for word in words)


@cache
def _tokenizer(source: str, folder: str, revision: str | None, class_name: str) -> Any:
    import transformers

    try:
        return getattr(transformers, class_name).from_pretrained(source, subfolder=folder, revision=revision)
    except (OSError, ValueError):
        return None

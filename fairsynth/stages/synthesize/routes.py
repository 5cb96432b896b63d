"""How a group's images can be made: by its own adapters, by borrowed ones, by a shared one, or by the prompt alone.

The routes:

- ``own``: the adapters of the group.
- ``same-attribute``: the adapters of the largest other group with this attribute, the label's word swapped, the
  lender's label as negative prompt. The rare token stays, because it stands for what the adapter has learnt: such
  images look like those of the lender, whatever their label.
- ``same-label``: the paper's (arXiv 2511.08711, severe bias): the adapters of the largest other group with this
  label, rare token dropped, attribute's word swapped, the lender's attribute as negative prompt.
  ``same-label-half``: at half strength; ``same-label-late``: only in the later half of the steps.
- ``composed``: an adapter of the same attribute and one of the same label, each at half strength.
- ``shared``: the adapter that has learnt all groups in turn, by the group's prompt.
- ``prompt``: the base model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairsynth.config import ROUTES, DataConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.prompts import fill
from fairsynth.stages.finetune.output import SHARED, Adapter
from fairsynth.stages.synthesize.image_plan import Source


def possible_routes(
    group: Group,
    adapters: Sequence[Adapter],
    counts: Mapping[Group, int],
    config: SynthesizeConfig,
    data: DataConfig,
    adapter_prompt: str,
    shared_guidance: float | None = None,
) -> dict[str, list[Source]]:
    """Every possible route of a group, with its sources: a source per adapter, weighted by its images.

    ``counts``: training images per group. ``adapter_prompt``: the template that adapters were trained with.
    ``shared_guidance``: for the adapter that all groups share; None: there is none. Routes that lack an adapter are left
    out; ``prompt`` is always possible.
    """
    sources: dict[str, list[Source]] = {}
    own = [adapter for adapter in adapters if adapter.group == group]
    if own:
        sources["own"] = [
            Source("own", a.name, a.cluster, a.prompt, a.images, config.negative_prompt, config.guidance) for a in own
        ]
    attribute = _lender([g for g in _lenders(adapters) if g.attribute == group.attribute and g != group], counts)
    label = _lender([g for g in _lenders(adapters) if g.label == group.label and g != group], counts)
    if attribute:
        sources["same-attribute"] = [
            replace(source, prompt=fill(adapter_prompt, data, group, adapter.token))
            for source, adapter in zip(
                _borrowed("same-attribute", group, attribute, adapters, config, data),
                (a for a in adapters if a.group == attribute),
                strict=True,
            )
        ]
    if label:
        for route, strength, begins in (
            ("same-label", 1.0, 0.0),
            ("same-label-half", 0.5, 0.0),
            ("same-label-late", 1.0, 0.5),
        ):
            sources[route] = _borrowed(route, group, label, adapters, config, data, strength, begins)
    if attribute and label:
        sources["composed"] = _composed(group, attribute, label, adapters, config, data)
    if shared_guidance is not None:
        learnt = fill(adapter_prompt, data, group)
        sources["shared"] = [Source("shared", SHARED, 0, learnt, 1, config.negative_prompt, shared_guidance)]
    prompt = fill(config.prompt, data, group)
    sources["prompt"] = [Source("prompt", None, 0, prompt, 1, config.negative_prompt, config.guidance)]
    assert set(sources) <= set(ROUTES)
    return sources


def _lenders(adapters: Sequence[Adapter]) -> list[Group]:
    return sorted({adapter.group for adapter in adapters})


def _lender(groups: Sequence[Group], counts: Mapping[Group, int]) -> Group | None:
    """The largest of these groups, the first by name among equals."""
    return min(groups, key=lambda group: (-counts[group], group)) if groups else None


def _borrowed(
    route: str,
    group: Group,
    lender: Group,
    adapters: Sequence[Adapter],
    config: SynthesizeConfig,
    data: DataConfig,
    strength: float = 1.0,
    begins: float = 0.0,
) -> list[Source]:
    """The lender's adapters with the borrower's prompt, and the lender's own word as negative prompt."""
    return [
        Source(
            route,
            adapter.name,
            adapter.cluster,
            fill(config.prompt, data, group),
            adapter.images,
            negative(config.negative_prompt, group, lender, data),
            config.borrow_guidance or config.guidance,
            strength,
            None,
            begins,
        )
        for adapter in adapters
        if adapter.group == lender
    ]


def negative(common: str, group: Group, lender: Group, data: DataConfig) -> str:
    """The lender's words that are not the borrower's, after the negative prompt that all images have."""
    # A combined attribute may differ in one part only: the negative prompt must not name what both have in common.
    parts = "{label}" if lender.label != group.label else "{attribute}"
    theirs = fill(parts, data, lender)
    shared = set(fill(parts, data, group).split(", "))
    words = ", ".join(word for word in theirs.split(", ") if word not in shared)
    return ", ".join(text for text in (common, words) if text)


def _composed(
    group: Group,
    attribute: Group,
    label: Group,
    adapters: Sequence[Adapter],
    config: SynthesizeConfig,
    data: DataConfig,
) -> list[Source]:
    """Every adapter of the same attribute, with the largest of the same label."""
    partner = min((a for a in adapters if a.group == label), key=lambda a: (-a.images, a.cluster))
    prompt, guidance = fill(config.prompt, data, group), config.borrow_guidance or config.guidance
    return [
        Source("composed", a.name, a.cluster, prompt, a.images, config.negative_prompt, guidance, 0.5, partner.name)
        for a in adapters
        if a.group == attribute
    ]

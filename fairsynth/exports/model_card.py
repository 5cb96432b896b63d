"""The card of a set of adapters, in the form that model hubs show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fairsynth.config import RunConfig
from fairsynth.escaping import code, plain
from fairsynth.exports.terms import of_people, privacy, terms_in_words
from fairsynth.models.families.family import Family
from fairsynth.models.hub.recognise import Recognised, known_or_first
from fairsynth.models.sources import base_of, in_package, is_demo, is_local, public_name
from fairsynth.version import __version__

_METHODS = {
    "lora": "LoRA (arXiv 2106.09685), one adapter per group, plain prompt",
    "dreambooth": "DreamBooth (arXiv 2208.12242) with a rare token, one adapter per group",
    "clustered-dreambooth": "Clustered DreamBooth (arXiv 2511.08711) with a rare token, one adapter per cluster of a group",
}


def model_card(
    config: RunConfig, adapters: Sequence[Mapping[str, Any]], shared: Sequence[str] = (), layout: str = ""
) -> str:
    """The card of all adapters of a run as Markdown, from their facts (``finetune.output.adapter_facts``).

    ``shared``: the prompts of the adapter that all groups share, if there is one. ``layout``: the dataset's; adapters of
    people are marked as sensitive.
    """
    base, full, known = base_of(config.models), config.finetune.parameters == "full", known_or_first(config.models)
    family = known.family
    front = ["---", "library_name: diffusers", "pipeline_tag: text-to-image", "tags:"]
    front += [f"- {tag}" for tag in (family.tag, "full-finetune" if full else "lora", "dreambooth", "fairsynth")]
    front += ["- sensitive"] if of_people(layout) else []
    if not is_demo(config.models.diffusion) and not is_local(config.models.diffusion):
        front.insert(1, yaml.safe_dump({"base_model": config.models.diffusion}, allow_unicode=True).rstrip())
    made = [facts for facts in adapters if not facts["failed"]]
    lines = [
        *front, "---", "",
        f"# {len(made)} {f'fine-tuned {_networks(family)}' if full else 'adapters'} for {plain(base['base_model'])}", "",
        f"Made by fairsynth {__version__}: {_METHODS[config.finetune.generator]}. Each makes images of one "
        "(label, attribute) group of a biased dataset, so that a classifier can be trained on groups of equal size.", "",
        f"- base model: {code(base['base_model'])}, version {code(base['base_revision'])}",
        f"- {_training(config, family)}",
        f"- {_validated(made)}",
        "- not for: pictures of the people or things in the training images, or claims about groups outside the dataset. "
        "The images may repeat training images; the licence of the base model and the rights in the dataset apply.",
        f"- the base model's licence: {plain(terms_in_words(config))}", "",
        *([f"**Sensitive.** {' '.join(map(plain, privacy(layout)))}", ""] if of_people(layout) else []),
        "## How to use", "", "```python", *_use(config.models.diffusion, full, known), "```", "",
        *(["## What there is", "", *_table(adapters), ""] if adapters else []),
        *(_shared(config, shared) if shared else ()),
    ]  # fmt: skip
    return "\n".join(lines)


def _networks(family: Family) -> str:
    return "UNets" if family.network == "unet" else f"{family.network}s"


def _training(config: RunConfig, family: Family) -> str:
    tuned, size = config.finetune, f"{config.models.image_size} px"
    size = f"{size} squared, in the images' own shapes" if config.models.shapes != "square" else size
    what = (
        f"all weights of the {_networks(family)[:-1]}"
        if tuned.parameters == "full"
        else f"rank {tuned.rank}, alpha {tuned.alpha}"
    )
    if tuned.frozen_weights == "int8":
        what += ", on a base whose linear layers were rounded to 8 bits a weight (int8)"
    prior = (
        f"prior preservation by {tuned.prior}, weight {tuned.prior_weight:g}"
        if tuned.prior_size
        else "no prior preservation"
    )
    uniform = tuned.snr_ceiling is None or not family.weighs_by_snr
    loss = family.loss_weights if uniform else f"min-SNR loss weights ({tuned.snr_ceiling:g})"
    return f"training: {what}; {size}, batch {tuned.batch_size}, learning rate {tuned.rate:g}; {prior}; {loss}"


def _validated(made: Sequence[Mapping[str, Any]]) -> str:
    validated = sum(bool(facts["validation"]) for facts in made)
    return f"kept state: the best on held-out images for {validated}, the last for {len(made) - validated}, whose clusters are small"


def _shared(config: RunConfig, prompts: Sequence[str]) -> list[str]:
    how = config.shared
    return [
        f"And one adapter for all groups, in `shared`: it has learnt each group as often as the others (rank {how.rank}, "
        f"{how.steps} steps of {how.batch_size} images, learning rate {how.learning_rate:g}), by these prompts; guidance "
        f"{how.guidance:g} suits it:", "",
        *(f"- {code(prompt)}" for prompt in prompts), "",
    ]  # fmt: skip


def _use(model: str, full: bool, known: Recognised) -> list[str]:
    # A JSON string is a Python string; backticks would end the block.
    base = f"base = {json.dumps(public_name(model)).replace('`', chr(92) + 'x60')}"
    base += "  # the folder of the base model" if is_local(model) else ""
    demo = ["from fairsynth.models.sources import demo_folder"] if is_demo(model) else []
    base = f'base = demo_folder("{in_package(model)}")' if is_demo(model) else base
    family = known.family
    # diffusers wants to be told of parts that a model has not.
    options = "".join(f", {part}=None" for part in family.missing(known.pipeline))
    if full:
        (network_class,), name = family.parts[family.network].classes, family.network
        return [
            f"from diffusers import {', '.join(sorted((family.pipeline_class, network_class)))}",
            *demo,
            "",
            base,
            f'{name} = {network_class}.from_pretrained("<group>/<cluster>")',
            f"pipeline = {family.pipeline_class}.from_pretrained(base, {name}={name}{options})",
        ]
    return [
        f"from diffusers import {family.pipeline_class}",
        *demo,
        "",
        base,
        f"pipeline = {family.pipeline_class}.from_pretrained(base{options})",
        'pipeline.load_lora_weights("<group>/<cluster>")',
    ]


def _table(adapters: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        "| label | attribute | cluster | images | prompt | steps | kept | loss on held-out images |",
        "|" + "---|" * 8,
    ]
    for facts in adapters:
        cells = [facts["label"], facts["attribute"], facts["cluster"], facts["images"]]
        if facts["failed"]:
            outcome = [facts["steps"], "none", f"failed: {facts['failed']}"]
        else:
            losses = dict(facts["validation"])
            held = f"{losses[facts['best_step']]:.4f}" if losses else "not measured"
            outcome = [facts["steps"], facts["best_step"], held]
        rows.append("| " + " | ".join([*map(plain, cells), code(facts["prompt"]), *map(plain, outcome)]) + " |")
    return rows

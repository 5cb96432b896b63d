"""Prompts that a model would cut are refused before anything is spent on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import DataError
from fairsynth.models.hub import prompts
from fairsynth.models.hub.prompts import check_prompts
from fairsynth.models.sources import demo_folder

LONG = "a photograph of a bird with a yellow crown and a long curved bill on a misty morning on the"
# The demo's models read 32 tokens.
DEMO = load_config(None, "demo", {})


def config(**changed: object) -> RunConfig:
    return load_config(None, "demo", {key.replace("__", "."): value for key, value in changed.items()})


def test_long_words_of_a_group_are_named_with_what_to_type() -> None:
    labels, attributes = ["low", "Black_footed_Albatross"], ["water", "forest/broadleaf"]
    with pytest.raises(DataError) as caught:
        check_prompts(DEMO, labels, attributes)
    text = str(caught.value)
    assert text.startswith("the prompt 'a photo of a Black_footed_Albatross number on a forest/broadleaf' has ")
    assert "models.diffusion reads 32" in text and "data.label_names, data.attribute_names" in text
    named = config(
        data__label_names={"Black_footed_Albatross": "gull"}, data__attribute_names={"forest/broadleaf": "wood"}
    )
    check_prompts(named, labels, attributes)


def test_the_rare_token_counts_where_adapters_are_trained() -> None:
    template = "{token} {label} {attribute} " + " ".join("a" for _ in range(26))
    long = {
        "finetune__prompt": template,
        "finetune__rare_tokens": ["a", "a a a a"],
        "synthesize__prompt": "{label} {attribute}",
    }
    with pytest.raises(DataError, match="'a a a a low"):
        check_prompts(config(**long), ["low"], ["a"])
    for fine in ({"finetune__generator": "vanilla"}, {"finetune__generator": "lora"}, {"finetune__rare_tokens": ["a"]}):
        check_prompts(config(**long | fine), ["low"], ["a"])


def test_a_negative_prompt_leaves_room_for_a_lenders_word() -> None:
    negative = " ".join("a" for _ in range(29))
    with pytest.raises(
        DataError, match=r"models\.diffusion reads 32: its end would be lost; shorten synthesize\.negative"
    ):
        check_prompts(config(synthesize__negative_prompt=negative), ["low"], ["flower"])
    check_prompts(config(synthesize__negative_prompt=negative, finetune__generator="vanilla"), ["low"], ["flower"])


def test_clip_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    real = prompts._tokenizer

    def short(source: str, folder: str, revision: str | None, kind: str) -> object:
        found = real.__wrapped__(source, folder, revision, kind)
        found.model_max_length = 32 if folder else 5
        return found

    monkeypatch.setattr(prompts, "_tokenizer", short)
    with pytest.raises(DataError, match=r"tokens, and models\.clip reads 5"):
        check_prompts(DEMO, ["low"], ["flower"])


def test_attributes_that_are_not_discovered_yet_have_the_words_that_are_given() -> None:
    check_prompts(config(data__attribute="discover"), ["low"], [])
    long = config(data__attribute="discover", data__attribute_names={"kind-1": LONG})
    with pytest.raises(DataError, match="photograph of a bird"):
        check_prompts(long, ["low"], [])


def test_a_very_long_prompt_is_shown_in_part() -> None:
    with pytest.raises(DataError) as caught:
        check_prompts(DEMO, ["word " * 2000], ["flower"])
    assert len(str(caught.value)) < 500 and "..." in str(caught.value)


def test_a_tokenizer_that_cannot_be_had_is_left_to_the_models_loading(tmp_path: Path) -> None:
    shutil.copytree(demo_folder("diffusion"), tmp_path / "own", ignore=shutil.ignore_patterns("tokenizer"))
    models = DEMO.models.model_copy(update={"diffusion": str(tmp_path / "own"), "clip": str(tmp_path)})
    check_prompts(DEMO.model_copy(update={"models": models}), [LONG], [LONG])

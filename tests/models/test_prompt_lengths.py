"""Prompts that a model would cut are refused, before anything is spent on them and wherever they are encoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import DataError
from fairsynth.models import prompt_lengths
from fairsynth.models.diffusion import encode_prompts, load_text_encoder
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.prompt_lengths import check_prompts

LONG = "a photograph of a bird with a yellow crown and a long curved bill on a misty morning on the"
# The demo's models read 32 tokens.
DEMO = load_config(None, "demo", {})


def config(**changed: object) -> RunConfig:
    return load_config(None, "demo", {key.replace("__", "."): value for key, value in changed.items()})


# Fault case 41: a prompt is cut, or lacks a placeholder.
def test_prompts_that_differ_beyond_the_end_alone_are_refused_where_they_are_encoded() -> None:
    """They had the same embedding: the attribute comes last."""
    pipeline, encoder = load_text_encoder(DEMO.models), ClipEncoder(DEMO.models)
    for encode in (lambda text: encode_prompts(pipeline, [text])["text"], lambda text: encoder.texts([text])):
        for word in ("sea", "land"):
            with pytest.raises(
                DataError, match=rf"{word}' has \d\d tokens, and models\.\w+ reads 32: its end would be"
            ):
                encode(f"{LONG} {word}")


def test_a_prompt_that_just_fits_is_encoded_whole() -> None:
    pipeline, encoder = load_text_encoder(DEMO.models), ClipEncoder(DEMO.models)
    fits = " ".join("a" for _ in range(30))  # and the model's own first and last token
    assert len(pipeline.tokenizer(fits).input_ids) == 32
    assert encode_prompts(pipeline, [fits])["text"].shape[1] == 32 and len(encoder.texts([fits, "a"])) == 2
    with pytest.raises(DataError, match="has 33 tokens"):
        encode_prompts(pipeline, [f"{fits} a"])


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
    real = prompt_lengths._tokenizer

    def short(source: str, folder: str, revision: str | None) -> object:
        found = real.__wrapped__(source, folder, revision)
        found.model_max_length = 32 if folder else 5
        return found

    monkeypatch.setattr(prompt_lengths, "_tokenizer", short)
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
    models = DEMO.models.model_copy(update={"diffusion": str(tmp_path), "clip": str(tmp_path)})
    check_prompts(DEMO.model_copy(update={"models": models}), [LONG], [LONG])

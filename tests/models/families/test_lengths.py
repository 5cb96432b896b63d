"""Prompts that a model would cut are refused wherever they are encoded."""

from __future__ import annotations

import pytest

from fairsynth.config.load import load_config
from fairsynth.errors import DataError
from fairsynth.models.diffusion import encode_prompts, load_text_encoder
from fairsynth.models.encoder import ClipEncoder

LONG = "a photograph of a bird with a yellow crown and a long curved bill on a misty morning on the"
# The demo's models read 32 tokens.
DEMO = load_config(None, "demo", {})


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

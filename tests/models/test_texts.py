"""Prompts are encoded once, each as if it were alone, and their encoders do not stay."""

from __future__ import annotations

import gc

import pytest
import torch
from transformers import CLIPTextModel

from fairsynth.config import ModelsConfig
from fairsynth.errors import DataError
from fairsynth.models import diffusion
from fairsynth.models.diffusion import encode_prompts, load_text_encoder, load_without_texts
from fairsynth.models.texts import Texts

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
PROMPTS = ["a photo of a low number", "", "a photo of a high number on a flower"]
CPU = torch.device("cpu")


def encoders() -> int:
    """Text encoders in this process's memory; whoever loaded them has seen to it that no cycle holds one."""
    return sum(isinstance(thing, CLIPTextModel) for thing in gc.get_objects())


def test_a_text_is_told_as_the_encoder_tells_it_alone_whatever_its_neighbours() -> None:
    texts, encoder = Texts(MODELS, PROMPTS), load_text_encoder(MODELS)
    alone = {text: encode_prompts(encoder, [text])["text"] for text in PROMPTS}
    for asked in (PROMPTS, PROMPTS[::-1], [PROMPTS[0]] * 3, ["a new one", PROMPTS[1]]):
        found = texts(asked, CPU)
        assert found.keys() == {"text"}
        for text, row in zip(asked, found["text"], strict=True):
            assert torch.equal(row, alone.get(text, encode_prompts(encoder, [text])["text"])[0])


def test_encoders_are_gone_when_their_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    loads, before = [], encoders()
    monkeypatch.setattr(diffusion, "load_text_encoder", lambda models: loads.append(1) or load_text_encoder(models))
    texts = Texts(MODELS, PROMPTS)
    texts(PROMPTS, CPU)
    pipeline = load_without_texts(MODELS)
    assert loads == [1] and encoders() == before
    assert pipeline.text_encoder is None and pipeline.unet is not None and pipeline.vae is not None
    texts(["another"], CPU)
    assert loads == [1, 1] and encoders() == before


def test_a_text_that_would_be_cut_is_refused() -> None:
    with pytest.raises(DataError, match=r"tokens, and models\.diffusion reads 32"):
        Texts(MODELS, ["many words " * 500])

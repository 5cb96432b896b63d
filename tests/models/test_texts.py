"""Prompts are encoded once, each as if it were alone, and their encoders do not stay."""

from __future__ import annotations

import gc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import CLIPTextModel

from fairsynth.config import ModelsConfig
from fairsynth.errors import DataError
from fairsynth.models import diffusion
from fairsynth.models.diffusion import encode_prompts, load_text_encoder, load_without_texts
from fairsynth.models.texts import TEXTS_FILE, Texts, encoded, read_table, table_of

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_stored_is_read_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    lengths = {f"text {n}": n % 5 + 1 for n in range(70)}
    texts = {
        name: {
            "text": torch.randn(1, tokens, 3).to(dtype),
            "pooled": torch.randn(1, 2),
            "mask": torch.ones(1, tokens, dtype=torch.bool),
        }
        for name, tokens in lengths.items()
    }
    pq.write_table(table_of(texts), tmp_path / TEXTS_FILE)
    wanted = ["text 3", "text 69", "another"]
    whole, some = (read_table(tmp_path / TEXTS_FILE, asked) for asked in (None, wanted))
    assert list(whole) == list(texts) and some.keys() == {*wanted[:2]}
    for found in (whole, some):
        for name, told in found.items():
            assert {key: value.dtype for key, value in told.items()} == {
                key: value.dtype for key, value in texts[name].items()
            }
            assert all(torch.equal(value, texts[name][key]) for key, value in told.items())


def test_texts_that_are_known_need_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    known, loads = encoded(MODELS, PROMPTS), []
    expected = Texts(MODELS, PROMPTS)(PROMPTS, CPU)
    monkeypatch.setattr(diffusion, "load_text_encoder", lambda models: loads.append(1) or load_text_encoder(models))
    texts = Texts(MODELS, PROMPTS, known)
    assert torch.equal(texts(PROMPTS, CPU)["text"], expected["text"]) and loads == []
    texts(["another"], CPU)
    assert loads == [1] and len(texts) == len(PROMPTS) + 1

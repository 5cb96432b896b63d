"""Embeddings of prompts on disk: each is what the demo's text encoder makes of that prompt alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from fairsynth.config import ModelsConfig
from fairsynth.errors import DataError
from fairsynth.models.diffusion import encode_prompts, load_text_encoder
from fairsynth.stages.finetune.prompt_embeddings import read_texts, write_texts

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
PLAIN = ["a photo of a sks low number on a building", "a photo of a low number on a building", "a photo of a dog"]
HOSTILE = [
    "", " ", "a|b`c`*d*", "<script>alert('x')</script>", 'quote " and \\ back', "line\nbreak\r\n\ttab", "nul\x00byte",
    "../../etc/passwd", "=1+1", "grün 🙂 日本語", "gru\u0308n", "\u202eright to left", "<|endoftext|>", "(a:1.5) [b]",
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> StableDiffusionPipeline:
    return load_text_encoder(MODELS)


def stored(prompts: list[str], folder: Path) -> dict[str, torch.Tensor]:
    """What is read after these prompts were written."""
    write_texts(MODELS, prompts, folder)
    assert [path.name for path in folder.iterdir()] == ["texts.parquet"]
    found = read_texts(folder)
    assert all(told.keys() == {"text"} for told in found.values())
    return {prompt: told["text"] for prompt, told in found.items()}


def as_alone(found: dict[str, torch.Tensor], encoder: StableDiffusionPipeline) -> bool:
    """Whether every prompt has the embedding that it has when it is the only one."""
    alone = {prompt: encode_prompts(encoder, [prompt])["text"][0].float().cpu() for prompt in found}
    assert all(found[prompt].shape == alone[prompt].shape for prompt in found)
    assert all(text.dtype == torch.float32 for text in found.values())
    return all(torch.allclose(found[prompt], alone[prompt], rtol=0, atol=1e-5) for prompt in found)


def test_every_prompt_has_the_embedding_that_it_has_alone(encoder: StableDiffusionPipeline, tmp_path: Path) -> None:
    found = stored(PLAIN, tmp_path)
    assert list(found) == PLAIN and as_alone(found, encoder)
    assert min((found[one] - found[other]).abs().max() for one in PLAIN for other in PLAIN if one != other) > 0.1
    # As the trainer takes them up: writable, and each as it is.
    found[PLAIN[0]].zero_()
    assert found[PLAIN[1]].any()


def test_one_prompt_is_enough(encoder: StableDiffusionPipeline, tmp_path: Path) -> None:
    found = stored(PLAIN[:1], tmp_path)
    assert list(found) == PLAIN[:1] and as_alone(found, encoder)


def test_a_prompt_that_would_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'many words many .* tokens, and models\.diffusion reads 32"):
        write_texts(MODELS, [*PLAIN, "many words " * 500], tmp_path)
    assert not list(tmp_path.iterdir())


def test_hostile_prompts_survive(encoder: StableDiffusionPipeline, tmp_path: Path) -> None:
    found = stored(HOSTILE, tmp_path)
    assert list(found) == HOSTILE and as_alone(found, encoder)

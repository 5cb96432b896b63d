"""The recipe of the flow transformer: what it assembles, and what training leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline, StableDiffusionPipeline
from transformers import CLIPModel

from fairsynth.demo.pretrain import flow
from fairsynth.demo.pretrain.corpus import draw_corpus
from fairsynth.models.sources import demo_folder

# diffusers wants to be told, although the folder says so.
NO_THIRD = {"text_encoder_3": None, "tokenizer_3": None}
PROMPT = "a photo of a sks high number on a flower"


def _assembled() -> StableDiffusion3Pipeline:
    torch.manual_seed(3)
    vae = AutoencoderKL.from_pretrained(demo_folder("diffusion") / "vae")
    return flow.assemble(vae, CLIPModel.from_pretrained(demo_folder("clip")), demo_folder("clip"))


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusion3Pipeline:
    return _assembled()


def _drawn(pipeline: StableDiffusion3Pipeline, prompt: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    pipeline.set_progress_bar_config(disable=True)
    return torch.from_numpy(
        pipeline(prompt, height=32, width=32, num_inference_steps=2, generator=generator, output_type="np").images
    )


def test_its_text_encoders_are_the_clips_text_tower_and_the_same_without_a_layer(
    pipeline: StableDiffusion3Pipeline,
) -> None:
    clip = CLIPModel.from_pretrained(demo_folder("clip"))
    ids = pipeline.tokenizer([PROMPT], return_tensors="pt").input_ids
    expected = clip.get_text_features(input_ids=ids).pooler_output
    torch.testing.assert_close(pipeline.text_encoder(ids).text_embeds, expected)
    whole, shorter = (
        tower(ids, output_hidden_states=True).hidden_states
        for tower in (pipeline.text_encoder, pipeline.text_encoder_2)
    )
    assert len(shorter) == len(whole) - 1
    torch.testing.assert_close(shorter[-2], whole[-3])


def test_a_caption_is_known_as_the_pipeline_encodes_it(pipeline: StableDiffusion3Pipeline) -> None:
    tokens, pooled = flow.CaptionTable(pipeline)([PROMPT, ""], zeros=5)
    expected = pipeline.encode_prompt(
        [PROMPT, ""], None, None, do_classifier_free_guidance=False, max_sequence_length=5
    )
    assert tokens.shape == (2, flow.CONTEXT + 5, flow.TEXT_WIDTH)
    torch.testing.assert_close(tokens, expected[0])
    torch.testing.assert_close(pooled, expected[2])


def test_neighbours_of_the_grid_are_told_apart_by_their_positions() -> None:
    table = flow.positions(flow.POSITIONS, 96)
    assert table.shape == (1, flow.POSITIONS**2, 96)
    likeness = (table[0] @ table[0].T) / 48  # 48 waves: one of a place with itself
    assert likeness.diagonal().min() > 0.999
    assert likeness.fill_diagonal_(0).max() < 0.9


def test_levels_follow_the_schedulers_own_table(pipeline: StableDiffusion3Pipeline) -> None:
    drawn = flow.levels(4000, flow.SHIFT, torch.Generator().manual_seed(0))
    table = pipeline.scheduler.sigmas
    assert drawn.min() > 0 and drawn.max() < 1
    assert drawn.median().item() == pytest.approx(table[len(table) // 2].item(), abs=0.02)


@pytest.mark.slow
def test_training_is_kept_and_the_saved_pipeline_loads_as_float32_and_draws_the_same(tmp_path: Path) -> None:
    corpus, untrained = draw_corpus(60, 5), _assembled().transformer.state_dict()
    trained, again = _assembled(), _assembled()
    base = StableDiffusionPipeline.from_pretrained(demo_folder("diffusion"), safety_checker=None)
    flow.train_flow(corpus, trained, base, tmp_path, 9, seed=1, batch=8)
    flow.train_flow(corpus, again, base, tmp_path, 9, seed=1, batch=8)
    learned = trained.transformer.state_dict()
    assert not torch.equal(learned["proj_out.weight"], untrained["proj_out.weight"])
    assert all(torch.equal(value, learned[name]) for name, value in again.transformer.state_dict().items())
    assert -1 < trained.vae.config.shift_factor < 1

    before = _drawn(trained, PROMPT)
    flow.save(trained, tmp_path / "saved")
    loaded = StableDiffusion3Pipeline.from_pretrained(tmp_path / "saved", **NO_THIRD)
    assert "_name_or_path" not in json.loads((tmp_path / "saved" / "vae" / "config.json").read_text("utf-8"))
    assert {loaded.transformer.dtype, loaded.vae.dtype, loaded.text_encoder.dtype} == {torch.float32}
    torch.testing.assert_close(_drawn(loaded, PROMPT), before, atol=0.01, rtol=0)

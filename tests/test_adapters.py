"""Adapters on the demo's real UNet: file format, scale, merging, removal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fairsynth.configuration import load_config
from fairsynth.models import adapters
from fairsynth.models.diffusion import generate, load_pipeline

MODELS = load_config(preset="demo").models
TARGETS = load_config(preset="demo").finetune.target_modules
PROMPT = "a photo of a low number on a building"


@pytest.fixture(scope="module")
def pipeline():  # type: ignore[no-untyped-def]
    return load_pipeline(MODELS)


@pytest.fixture(scope="module")
def trained(pipeline) -> dict[str, torch.Tensor]:  # type: ignore[no-untyped-def]
    """An adapter with weights that change the picture."""
    adapters.add_adapter(pipeline.unet, 4, 8, TARGETS, seed=1)
    state = adapters.adapter_state(pipeline.unet)
    adapters.remove_adapter(pipeline.unet)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in state.items()}


def _image(pipeline, seed: int = 7):  # type: ignore[no-untyped-def]
    return generate(pipeline, [PROMPT], [""], [seed], 32, 4, 2.0).astype(int)


def test_merged_equals_plain_diffusers_loading_with_the_right_alpha(pipeline, trained: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    adapters.save_adapter(trained, tmp_path, rank=4, alpha=8, target_modules=TARGETS)
    base = _image(pipeline)
    merged = adapters.MergedAdapters(pipeline.unet)
    merged.switch(tmp_path / adapters.FILE_NAME)
    ours = _image(pipeline)
    merged.switch(None)
    assert (_image(pipeline) == base).all(), "switching off must restore the base exactly"
    pipeline.load_lora_weights(tmp_path, adapter_name="plain")
    scales = {module.scaling["plain"] for module in pipeline.unet.modules() if hasattr(module, "scaling")}
    theirs = _image(pipeline)
    pipeline.unload_lora_weights()
    assert scales == {2.0}
    assert abs(ours - theirs).max() <= 1
    assert abs(ours - base).max() > 10, "an adapter that changes nothing proves nothing"


def test_a_fresh_adapter_changes_nothing_and_its_seed_decides_it(pipeline) -> None:  # type: ignore[no-untyped-def]
    base, states = _image(pipeline), []
    for seed in (1, 1, 2):
        parameters = adapters.add_adapter(pipeline.unet, 4, 4, TARGETS, seed)
        assert {p.dtype for p in parameters} == {torch.float32}
        states.append(adapters.adapter_state(pipeline.unet))
        assert (_image(pipeline) == base).all()
        adapters.remove_adapter(pipeline.unet)
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_weights_that_are_not_finite_are_never_saved(trained: dict, tmp_path: Path) -> None:
    broken = dict(trained, **{next(iter(trained)): torch.full((2, 2), torch.nan)})
    with pytest.raises(ValueError, match="NaN"):
        adapters.save_adapter(broken, tmp_path, 4, 4, TARGETS)
    assert not list(tmp_path.iterdir())

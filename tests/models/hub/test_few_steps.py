"""What a config with a few-step sampler has of what it leaves open, and what it is refused for before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from fairsynth.commands.settled import settled
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.hub.few_steps import WEIGHTS, identity, layers_of

# What the demo's UNet reads.
WIDTH = 96


def sampler(folder: Path, width: int = WIDTH, **more: Any) -> Path:
    """A file that looks like a sampler's."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{layer}.lora_A.weight": np.zeros((2, width), np.float32), f"{layer}.lora_B.weight": np.zeros((48, 2))}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors | more, folder / WEIGHTS)
    return folder / WEIGHTS


def config(few_steps: Path | str, **given: object) -> RunConfig:
    base = {"models.diffusion": "demo", "models.clip": "demo", "models.image_size": 32, "classify.backbone": "small"}
    settings = {name.replace("__", "."): value for name, value in given.items()}
    return load_config(None, None, {**base, "synthesize.few_steps": str(few_steps), **settings})


def refused(few_steps: Path | str, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        settled(config(few_steps, **given))
    return str(caught.value)


def own(config: RunConfig) -> tuple[object, ...]:
    how = config.synthesize
    return how.scheduler, how.steps, how.guidance, config.shared.guidance


def test_what_is_open_is_the_samplers_and_what_is_said_stays(tmp_path: Path) -> None:
    file = sampler(tmp_path)
    found = settled(config(file))
    assert own(found) == ("lcm", 4, 1.0, 1.0) and settled(found) == found
    assert settled(config(tmp_path)).synthesize.few_steps == str(tmp_path)
    said = config(file, synthesize__steps=8, synthesize__guidance=1.5, synthesize__scheduler="euler")
    assert own(settled(said)) == ("euler", 8, 1.5, 1.0)
    assert own(with_base(config(file, models__diffusion="stable-diffusion-v1-5/none"))) == ("lcm", 4, 1.0, 1.0)


def test_settings_that_do_not_go_with_it_are_refused_with_what_to_set(tmp_path: Path) -> None:
    file = sampler(tmp_path)
    assert refused(file, synthesize__steps=12).endswith("is for 1 to 8: set --synthesize.steps 4")
    assert refused(file, synthesize__guidance=5).endswith("at most 2: set --synthesize.guidance 1")
    assert refused(file, shared__guidance=3).endswith("set --shared.guidance 1")
    assert refused(file, synthesize__borrow_guidance=3).endswith("set --synthesize.borrow_guidance 1")
    assert "set --finetune.parameters adapter" in refused(file, finetune__parameters="full")
    assert "set --finetune.prior teacher" in refused(file, finetune__prior="images")
    assert "whose noise is another" in refused(file, models__diffusion="demo-flow")


def test_files_that_are_no_samplers_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "none.safetensors")
    assert "there is no file" in refused("./none") and "there is no file" in refused("a/b/c")
    (tmp_path / "empty").mkdir()
    assert f"has no {WEIGHTS}; give the .safetensors file itself" in refused(tmp_path / "empty")
    (tmp_path / "text.safetensors").write_text("no weights", "utf-8")
    assert "is no safetensors file" in refused(tmp_path / "text.safetensors")
    assert "reads texts of width 768; that of models.diffusion reads 96" in refused(sampler(tmp_path / "sd", 768))
    half = sampler(tmp_path / "half", **{"unet.conv_in.lora_A.weight": np.zeros((2, 4, 3, 3))})
    assert "has only half of 'conv_in'" in refused(half)
    for name in ("unet.conv_in.dora_scale", "text_encoder.layers.0.q.lora_A.weight", "lora_te_layers_0.alpha"):
        told = refused(sampler(tmp_path / "other", **{name: np.zeros((2, 2))}))
        assert f"{name!r}, which is no weight of a UNet's LoRA" in told
    with pytest.raises(ConfigError, match="is empty"):
        layers_of([])


def test_a_hubs_file_is_looked_at_if_the_cache_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert own(settled(config("owner/lcm"))) == ("lcm", 4, 1.0, 1.0)
    folder, commit = tmp_path / "models--owner--lcm", "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit, "utf-8")
    sampler(folder / "snapshots" / commit, 768)
    assert "reads texts of width 768" in refused("owner/lcm")


def test_a_result_is_named_by_the_files_content_or_the_hubs_commit(tmp_path: Path) -> None:
    one, other = sampler(tmp_path / "one"), sampler(tmp_path / "other", 768)
    by_file, by_folder, of_other = (identity(config(place).synthesize) for place in (one, one.parent, other))
    assert by_file == by_folder != of_other and str(tmp_path) not in by_file
    assert identity(config("owner/lcm", synthesize__few_steps_revision="abc").synthesize) == "owner/lcm@abc"
    assert identity(RunConfig().synthesize) == ""

"""Which family a base model is of, and what is told of one that is of none."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from fairsynth.config import ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.hub.recognise import base_family, family_if_known, recognised
from tests.support.models.pipelines import described, in_cache


def of(source: str | Path) -> ModelsConfig:
    return ModelsConfig(diffusion=str(source))


def refused(source: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        family_if_known(of(source))
    return str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_family_is_known_by_the_pipelines_class(tmp_path: Path) -> None:
    assert base_family(of(described(tmp_path / "sd"))).name == base_family(of("demo")).name == "sd"
    found = recognised(of(described(tmp_path / "odd", network={"sample_size": 7}, extra=3)))
    assert found.network == {"sample_size": 7} and found.pipeline["extra"] == 3


@pytest.mark.parametrize("kind", ["StableVideoDiffusionPipeline", "WanPipeline", "\x1b[31mMine", "LatteT2V" * 50])
def test_another_pipeline_is_refused_with_what_is_supported(kind: str, tmp_path: Path) -> None:
    told = refused(described(tmp_path / "model", kind))
    assert told.startswith("models.diffusion: ") and "which is not supported" in told and "\x1b" not in told
    assert "Stable Diffusion 1.x or 2.x (StableDiffusionPipeline)" in told and len(told) < 1500


def test_a_pipeline_without_a_part_is_refused(tmp_path: Path) -> None:
    for number, missing in enumerate((None, [None, None])):
        told = refused(described(tmp_path / str(number), text_encoder=missing))
        assert "has no text_encoder" in told and "give a whole pipeline" in told


def test_a_network_that_takes_guidance_as_an_input_is_refused(tmp_path: Path) -> None:
    told = refused(described(tmp_path / "lcm", network={"time_cond_proj_dim": 256}))
    assert "guidance" in told and "choose another base model" in told


def test_a_folder_that_is_no_pipeline_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no usable model_index.json" in refused(tmp_path / "empty")
    broken = described(tmp_path / "broken")
    (broken / "model_index.json").write_text("[1]", "utf-8")
    assert "no JSON object" in refused(broken)


def test_a_hub_id_is_known_by_what_the_cache_has(cache: Path) -> None:
    in_cache(cache, "owner/sd", "StableDiffusionPipeline")
    video = in_cache(cache, "owner/video", "StableVideoDiffusionPipeline")
    assert base_family(of("owner/sd")).name == "sd"
    # The index alone is enough to refuse a model.
    (video / "unet" / "config.json").unlink()
    assert "'owner/video' is a StableVideoDiffusionPipeline" in refused("owner/video")


def test_a_hub_id_that_cannot_be_had_is_of_no_known_family(cache: Path) -> None:
    assert family_if_known(of("owner/nowhere")) is None and family_if_known(of("./no/such/folder")) is None
    half = in_cache(cache, "owner/half", "StableDiffusionPipeline")
    (half / "unet" / "config.json").unlink()
    assert family_if_known(of("owner/half")) is None

"""Folders of models are known by their whole path, whatever folder a worker is in; words and hub ids stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config.load import changed, load_config


def test_a_folder_of_a_model_has_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net", "small", "demo", "models/sd"):
        (tmp_path / name).mkdir(parents=True)
    given = {
        "classify.backbone": "./net",
        "models.diffusion": "models/sd",
        "models.clip": "openai/clip-vit-base-patch32",
    }
    config = load_config(None, "demo", given)
    assert (config.classify.backbone, config.models.diffusion) == (f"{tmp_path}/net", f"{tmp_path}/models/sd")
    assert config.models.clip == "openai/clip-vit-base-patch32"
    assert changed(config, {"classify.backbone": "net"}).classify.backbone == f"{tmp_path}/net"
    usual = load_config(None, "demo")
    assert (usual.classify.backbone, usual.models.diffusion, usual.models.clip) == ("small", "demo", "demo")


def test_a_folder_that_is_not_there_is_told_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, "demo", {"classify.backbone": "./nosuch"}).classify.backbone == "./nosuch"

"""Which version of a model a result depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import ConvNextConfig, ConvNextModel, ResNetConfig, ResNetModel

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.classifier import build_classifier
from fairsynth.models.hub.check import check_sources
from fairsynth.models.sources import backbone_revision


def test_a_folder_that_is_called_as_the_small_backbone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = backbone_revision(ClassifyConfig(backbone="small"))
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert backbone_revision(ClassifyConfig(backbone="small")) == before == "small@main"
    assert backbone_revision(ClassifyConfig(backbone="./small")) != before


def test_no_backbone_begins_with_random_weights_in_place_of_its_own(tmp_path: Path) -> None:
    ConvNextModel(ConvNextConfig(depths=[1, 1], hidden_sizes=[8, 16], num_stages=2)).save_pretrained(tmp_path / "other")
    ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ).save_pretrained(tmp_path / "whole")
    with pytest.raises(ConfigError, match="is a network of the kind 'convnext'"):
        check_sources(ModelsConfig(diffusion="demo", clip="demo"), ClassifyConfig(backbone=str(tmp_path / "other")))
    with pytest.raises(ConfigError, match=r"lacks .* of a ResNet's weights"):
        build_classifier(ClassifyConfig(backbone=str(tmp_path / "other")), 2, 0)
    check_sources(ModelsConfig(diffusion="demo", clip="demo"), ClassifyConfig(backbone=str(tmp_path / "whole")))
    assert build_classifier(ClassifyConfig(backbone=str(tmp_path / "whole")), 2, 0).encoder.config.hidden_sizes == [
        8,
        16,
    ]

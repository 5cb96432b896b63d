"""Which version of a model a result depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import ClassifyConfig
from fairsynth.models.sources import backbone_revision


def test_a_folder_that_is_called_as_the_small_backbone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = backbone_revision(ClassifyConfig(backbone="small"))
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert backbone_revision(ClassifyConfig(backbone="small")) == before == "small@main"
    assert backbone_revision(ClassifyConfig(backbone="./small")) != before

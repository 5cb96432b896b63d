"""Licences and privacy, by what is configured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.exports.terms import dataset_terms, model_terms, privacy


def terms(model: str | Path) -> dict[str, str]:
    return model_terms(load_config(None, "demo", {"models.diffusion": str(model)}))


@pytest.mark.parametrize(
    ("model", "licence", "trained"),
    [
        ("demo", "Apache-2.0", "no conditions"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "OpenRAIL-M", "a classifier is not"),
        ("stabilityai/stable-diffusion-2-1", "OpenRAIL++-M", "a classifier is not"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "OpenRAIL++-M", "a classifier is not"),
        ("stabilityai/stable-diffusion-3.5-medium", "Stability AI Community", "the classifier is one"),
        ("stabilityai/sd-turbo", "non-commercial", "not be used commercially"),
        ("black-forest-labs/FLUX.1-dev", "FLUX Non-Commercial", "research alone"),
        ("black-forest-labs/FLUX.1-schnell", "Apache-2.0", "no conditions"),
    ],
)
def test_models_are_known_by_their_ids(model: str, licence: str, trained: str) -> None:
    found = terms(model)
    assert licence in found["licence"] and trained in found["trained"]


@pytest.mark.parametrize("model", ["someone/their-model", "stabilityai/stable-diffusion-xl-base-0.9"])
def test_an_unknown_model_is_said_to_be_unknown(model: str) -> None:
    """SDXL 0.9 came under a research licence, not that of 1.0."""
    found = terms(model)
    assert not found["recognised"] and "unknown" in found["licence"] and "look it up" in found["licence"]


def folder(path: Path, card: str = "", **index: str) -> Path:
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}), "utf-8")
    if card:
        (path / "README.md").write_text(card, "utf-8")
    return path


def test_a_folder_is_known_by_its_card(tmp_path: Path) -> None:
    assert terms(folder(tmp_path / "one", "---\nlicense: apache-2.0\n---\nText"))["licence"] == "Apache-2.0"
    assert "OpenRAIL-M" in terms(folder(tmp_path / "two", "---\nlicense: creativeml-openrail-m\n---\n"))["licence"]
    assert not terms(folder(tmp_path / "three", "---\nlicense: their-own\n---\n"))["recognised"]


def test_a_folder_without_card_is_not_guessed_by_its_class_alone(tmp_path: Path) -> None:
    assert not terms(folder(tmp_path / "one"))["recognised"]
    known = folder(tmp_path / "two", _name_or_path="stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert "OpenRAIL-M" in terms(known)["licence"] and terms(known)["model"] == "two"


def test_datasets_and_privacy() -> None:
    config = RunConfig()
    for layout in ("celeba", "utkface"):
        assert "research" in dataset_terms(config, layout) and "confirmed by you" in dataset_terms(config, layout)
        assert "does not promise privacy" in " ".join(privacy(layout))
    assert "unknown" in dataset_terms(config, "folder") and "If the images show people" in privacy("folder")[0]
    assert privacy("demo") == privacy("waterbirds") == []

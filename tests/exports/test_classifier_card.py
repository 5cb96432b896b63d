"""The classifier's card: what a reader who was not there finds, and hostile names stay text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fairsynth.config import RunConfig
from fairsynth.exports.classifier_card import classifier_card

HOSTILE = "<script>|x\n# y"


def report(setting: dict[str, str] | None = None, **config: Any) -> dict[str, Any]:
    """A report of two groups, one of them without test images; three seeds."""
    names = [{"label": "cat", "attribute": "a"}, {"label": HOSTILE, "attribute": "b"}]
    figure = {"mean": 0.5, "ci95": [0.25, 0.75], "per_seed": [0.4375, 0.5625, 0.5]}
    groups = [
        {**names[0], "n": 16, "accuracy": 0.5, "ci95": [0.28, 0.72]},
        {**names[1], "n": 0, "accuracy": None, "ci95": None},
    ]
    keys = ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "ece")
    ours = {"name": "fairsynth", "seeds": [0, 1, 2], "groups": groups, **dict.fromkeys(keys, figure)}
    return {
        "seed": 3, "verdict": "inconclusive", "verdict_why": "", "discovered": None,
        "methods": [{"name": "erm"}, ours],
        "dataset": {"train": [{**name, "n": 40} for name in names], "val": [{**name, "n": 8} for name in names]},
        "groups": [{**names[0], "accepted": 0}, {**names[1], "accepted": 12}],
        "settings": {"fairsynth": {"synthetic": "mix", "stage_2": "none", "validation": "choose", "augmentation": "light"} | (setting or {})},
        "config": RunConfig.model_validate(config).model_dump(mode="json", exclude={"out", "resources", "bench"}),
    }  # fmt: skip


def test_a_reader_who_was_not_there_finds_figures_with_their_intervals_and_numbers() -> None:
    card = classifier_card(report(), 224)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "other" and front["pipeline_tag"] == "image-classification"
    assert "| cat | a | 40 | 16 | 50.0 % | 28.0 % to 72.0 % |" in card
    assert "| 40 | 0 | not measured | none |" in card and "1 groups have no test images" in card
    assert "| worst-group accuracy | 43.8 % | 50.0 % | 25.0 % to 75.0 % |" in card
    assert "not to be told from ERM" in card and "the first of 3 trainings" in card and "(seed 3)" in card
    assert "1 groups have fewer than 100 test images" in card and "Not for: decisions about people" in card


def test_hostile_names_stay_text() -> None:
    card = classifier_card(report(data={"format": "folder", "label_names": {HOSTILE: HOSTILE}}), 224)
    assert "<script>" not in card and r"| \<script\>\|x \# y | b |" in card
    assert not any(line.startswith("# y") for line in card.splitlines())


@pytest.mark.parametrize("used", [True, False])
def test_licences_are_those_of_what_took_part(used: bool) -> None:
    models = {"diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
    given = report({"synthetic": "mix" if used else "none"}, models=models, data={"format": "celeba"})
    card = classifier_card(given, 224)
    assert ("CreativeML OpenRAIL-M" in card) is used and ("and 12 synthetic images in 1 groups" in card) is used
    assert ("and no synthetic images: it learnt from real images alone." in card) is not used
    assert "CelebA's agreement" in card and "`microsoft/resnet-50`" in card and "images of people" in card
    assert "fairsynth grants no licence to these weights" in card and "/home" not in card


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"validation": "learn"}, "it learned from them, too"),
        ({"stage_2": "dfr"}, "it learned from them, too"),
        ({}, "they chose its epoch and settings; it did not learn from them"),
    ],
)
def test_it_says_whether_validation_images_taught_it(setting: dict[str, str], told: str) -> None:
    assert f"- 16 validation images: {told}." in classifier_card(report(setting), 224)


def test_a_dataset_that_was_recognised_has_the_terms_of_its_layout() -> None:
    given = report(data={"root": "/somewhere"})
    assert "CelebA" not in classifier_card(given, 224)
    card = classifier_card(given | {"data": {"layout": "celeba"}}, 224)
    assert "CelebA's agreement" in card and "images of people" in card

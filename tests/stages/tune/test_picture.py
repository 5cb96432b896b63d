"""The table of trials and the picture of the search."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from fairsynth.stages.tune.halving import Trial
from fairsynth.stages.tune.picture import draw, to_csv

TRIALS = [
    Trial("erm", 0, {"epochs": 3, "learning_rate": 0.001}, 0.5, 0.6, 0.9, (0.5, 0.9), 3, True, 1.25),
    Trial("erm", 1, {"epochs": 3, "learning_rate": 0.002}, 0.4, 0.8, 0.9, (0.4, 0.9), 1, False, 0.5),
    Trial("fairsynth", 0, {"epochs": 3, "beta": 0.5}, None, None, None, (0.1, 0.2), 1, False),
    Trial("fairsynth", 1, {"epochs": 2, "beta": 0.4}, 0.0, 0.1, 0.7, (0.3, 0.4), 2, True),
]


def test_every_trial_has_a_line_and_each_method_one_that_is_chosen() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(TRIALS, [TRIALS[0], TRIALS[3]]))))
    assert [(line["method"], line["trial"], line["chosen"]) for line in lines] == [
        ("erm", "0", "true"),
        ("erm", "1", "false"),
        ("fairsynth", "0", "false"),
        ("fairsynth", "1", "true"),
    ]
    assert lines[0]["learning_rate"] == "0.001" and lines[0]["beta"] == "" and lines[0]["seconds"] == "1.25"
    assert lines[2]["worst_group_accuracy"] == "" and lines[3]["worst_group_accuracy"] == "0.0"
    others = csv.DictReader(io.StringIO(to_csv(TRIALS, [TRIALS[1], TRIALS[3]])))
    assert [line["chosen"] for line in others] == ["false", "true", "false", "true"]


def test_the_picture_shows_each_trial_that_has_a_figure(tmp_path: Path) -> None:
    def blue(trials: list[Trial]) -> int:
        draw(trials, trials[-1:], "worst-group", tmp_path / "s.png")
        pixels = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).astype(int)
        return int((np.abs(pixels - (0x00, 0x72, 0xB2)).sum(2) < 40).sum())

    whole, hollow = blue(TRIALS[:1]), blue([TRIALS[1]])
    assert 0 < hollow < whole and blue(TRIALS) > whole + hollow
    assert blue([TRIALS[2]]) == 0

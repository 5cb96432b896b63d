"""The table of trials and the picture of the search."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from fairsynth.stages.tune.halving import Trial
from fairsynth.stages.tune.picture import draw, note, to_csv

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


def cross_fitted(synthetic: str) -> Trial:
    setting = {"epochs": 3, "synthetic": synthetic}
    return Trial("fairsynth", 0, setting, 0.7, 0.8, 0.9, (0.7, 0.9), 0, True, predicted=(0, 1))


def dfr(number: int) -> Trial:
    return Trial("dfr", number, {"epochs": 3}, 0.5, 0.6, 0.7, (0.5, 0.7), 3, True)


def test_each_line_says_whether_its_images_were_seen_by_the_training_that_they_judge() -> None:
    lines = csv.DictReader(io.StringIO(to_csv([*TRIALS[:3], cross_fitted("mix")], [])))
    assert [line["validation"] for line in lines] == ["chose", "chose", "", "unseen"]


def test_where_methods_are_judged_by_images_of_different_kinds_it_is_told() -> None:
    told = note([*TRIALS[:2], dfr(0), cross_fitted("mix")])
    for words in (
        "not methods: fairsynth's",
        "had not seen",
        "DFR's",
        "the others",
        "chose their epochs",
        "the filter",
    ):
        assert words in told
    without = note([*TRIALS[:2], cross_fitted("none")])
    assert "had not seen" in without and "filter" not in without and "DFR" not in without
    # One policy that is not cross-fitted: its epoch is chosen as the others' are, but its images were filtered.
    kept = Trial("fairsynth", 0, {"synthetic": "pretrain"}, 0.7, 0.8, 0.9, (0.7, 0.9), 3, True)
    assert "all are of the images that chose" in note([TRIALS[0], kept]) and "filter" in note([TRIALS[0], kept])


def test_one_method_or_methods_that_are_judged_alike_need_no_note() -> None:
    alike = Trial("group-dro", 0, {"epochs": 3}, 0.5, 0.6, 0.7, (0.5, 0.7), 3, True)
    assert note([cross_fitted("mix")]) == note([dfr(0), dfr(1)]) == note([TRIALS[0], alike]) == ""


def test_the_picture_has_room_for_the_note(tmp_path: Path) -> None:
    sizes = []
    for trials in ([cross_fitted("mix")], [TRIALS[0], cross_fitted("mix")]):
        draw(trials, [trials[0]], "worst-group", tmp_path / "s.png")
        # Dark pixels below the axis: the names of the methods, and the note.
        pixels = np.asarray(Image.open(tmp_path / "s.png").convert("L"))
        sizes.append(int((pixels[-80:] < 100).sum()))
    assert sizes[1] > 3 * sizes[0]

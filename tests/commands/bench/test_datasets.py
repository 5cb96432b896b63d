"""The table of several datasets: grids, differences, averages, what failed, and a panel for each dataset."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairsynth.commands.bench.beside import MARGINS, beside
from fairsynth.commands.bench.datasets import markdown_of_datasets
from fairsynth.commands.bench.picture import draw
from fairsynth.commands.bench.rows import Failed, Measured, rows
from fairsynth.commands.bench.table import markdown
from fairsynth.commands.bench.values import to_csv, to_json
from tests.commands.bench.test_beside import repeated

HOSTILE = "b|c `$x$` <i>"


def outcomes() -> list[Measured | Failed]:
    """Two datasets at two severities, three repetitions: fairsynth is ahead on one and behind on the other."""
    found: list[Measured | Failed] = []
    for severity in ("95 %", "99 %"):
        for dataset, ours in (("tint", (6, 8, 7)), (HOSTILE, (3, 4, 3))):
            place = {"severity": severity, "dataset": dataset}
            found += repeated("erm", (2,), (3,), (2,), **place) + repeated("dfr", (5,), (6,), (6,), **place)
            found += repeated("fairsynth", *((low,) for low in ours), **place)
    return found


def lines_below(text: str, title: str) -> list[list[str]]:
    """The cells of the table below a title, without its heading."""
    part = text[text.index(title) :].split("\n\n")[1]
    return [[cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in part.splitlines()[2:]]


def test_each_level_has_a_grid_of_datasets_and_methods() -> None:
    text = markdown_of_datasets(rows(outcomes()))
    first, second = lines_below(text, "**Worst-group accuracy, 99 %**, mean and 95 % interval over 3 repetitions")
    assert [cell.split(" ")[0] for cell in first] == ["tint", "23.3", "56.7", "70.0"]
    assert second[0] == r"b¦c \`$x$\` \<i\>" and second[3].startswith("33.3 (19.0 – 47.7)")
    accuracy = lines_below(text, "**Accuracy (mean over images), 95 %**")
    assert accuracy[0][3].startswith("85.0") and len(accuracy) == 2
    assert "| dataset | ERM | DFR | fairsynth, vanilla |" in text


def test_differences_averages_and_misses_are_told() -> None:
    text = markdown_of_datasets(rows(outcomes()))
    found = lines_below(text, "**fairsynth beside the best rival**")
    assert [line[:4] for line in found[:2]] == [
        ["tint", "95 %", "fairsynth, vanilla", "DFR"],
        [r"b¦c \`$x$\` \<i\>", "95 %", "fairsynth, vanilla", "DFR"],
    ]
    for line, one, goal in zip(
        found, beside(rows(outcomes())), ("kept", "**missed**: worst group and accuracy"), strict=False
    ):
        assert one.differences is not None
        differences = [one.differences[figure] for figure in MARGINS]
        points = [(100 * each["mean"], *(100 * bound for bound in each["ci95"])) for each in differences]
        assert line[4:] == [
            *(f"{m:+.1f} ({low:+.1f} to {high:+.1f})" for m, low, high in points),
            "3 repetitions",
            goal,
        ]
        # 0.1, 0.2, 0.1 above; 0.2, 0.2, 0.3 below: Student's half width is 4.303 x 0.0577 / sqrt(3).
        low, high = differences[0]["ci95_repeats"]
        assert (high - low) / 2 == pytest.approx(4.303 * 0.0577 / np.sqrt(3), rel=1e-3)
    assert [line[4].split()[0] for line in found[:2]] == ["+13.3", "-23.3"]
    averages = lines_below(text, "**Average of these differences**")
    assert [line[0] for line in averages] == ["95 %", "99 %"]
    assert averages[0][2].startswith("-5.0 (") and averages[0][4:] == ["2 of 2", "1"]
    assert "more than 2 points in worst group or 3 points in accuracy" in text


def test_single_repetitions_say_that_training_seeds_are_paired() -> None:
    parts = [
        measured
        for dataset in "ab"
        for measured in [*repeated("dfr", (5, 6), dataset=dataset), *repeated("fairsynth", (6, 7), dataset=dataset)]
    ]
    (line, _) = lines_below(markdown_of_datasets(rows(parts)), "**fairsynth beside")
    assert line[6] == "2 training seeds"


def test_what_failed_is_told_with_its_reason_and_counts_nowhere() -> None:
    place = ("95 %", 1, "no | images, <b>", "lost")
    failed = [Failed("erm", "", *place), Failed("dfr", "", *place), Failed("fairsynth", "vanilla", *place)]
    again = Failed("dfr", "", "95 %", 1, "other reason", "tint")
    table = rows([*outcomes(), *failed, again])
    text = markdown_of_datasets(table)
    *_, lost = lines_below(text, "**Worst-group accuracy, 95 %**")
    assert lost == ["lost", "failed", "failed", "failed"]
    assert lines_below(text, "**Worst-group accuracy, 95 %**")[0][2].endswith(", 1 failed")
    assert lines_below(text, "**fairsynth beside")[2][3:] == ["–", "–", "–", "–", "failed"]
    assert lines_below(text, "**Average of")[0][4] == "2 of 3"
    assert lines_below(text, "**Failed**") == [
        ["tint", "95 %", "1", "DFR", "failed: other reason"],
        ["lost", "95 %", "1", "ERM, DFR, fairsynth, vanilla", r"failed: no ¦ images, \<b\>"],
    ]
    read = {(line["dataset"], line["method"]): line for line in csv.DictReader(io.StringIO(to_csv(table)))}
    line = read["lost", "erm"]
    assert (line["repetitions"], line["worst_group_accuracy"], line["failed"]) == ("0", "", "no | images, <b>")
    entry = next(e for e in json.loads(json.dumps(to_json(table), allow_nan=False)) if e["dataset"] == "lost")
    assert entry["figures"] == {} and entry["repetitions"] == []
    assert entry["failed"] == [{"repetition": 1, "reason": "no | images, <b>"}]


def test_a_single_dataset_tells_its_failures_too() -> None:
    text = markdown(rows([*repeated("erm", (5,)), Failed("dfr", "", "95 %", 0, "too few")]))
    assert "| DFR | failed |" in text and "| 95 % | 0 | DFR | failed: too few |" in text
    assert "**Failed**" not in markdown(rows(repeated("erm", (5,))))
    assert "| ERM | failed |" in markdown(rows([Failed("erm", "", "95 %", 0, "too few")]))


def test_biased_validation_is_named_for_people() -> None:
    table = rows([*repeated("erm", (5,)), *repeated("erm", (3,), validation="biased")])
    assert "| method | 95 % | 95 %, biased validation |" in markdown(table)
    both = [m for d in "ab" for v in ("given", "biased") for m in repeated("erm", (5,), dataset=d, validation=v)]
    assert "**Worst-group accuracy, 95 %, biased validation**" in markdown_of_datasets(rows(both))


def test_csv_and_json_name_dataset_and_validation_behind_all_else() -> None:
    table = rows([*repeated("erm", (5,), dataset=HOSTILE, validation="biased"), *repeated("dfr", (5,))])
    head, first, second = csv.reader(io.StringIO(to_csv(table)))
    assert head[-3:] == ["dataset", "validation", "failed"]
    assert first[-3:] == [HOSTILE, "biased", ""] and second[-3:] == ["", "given", ""]
    entry, _ = to_json(table)
    assert (entry["dataset"], entry["validation"], entry["repetitions"], entry["failed"]) == (
        HOSTILE,
        "biased",
        [0],
        [],
    )


def orange(path: Path) -> int:
    """Pixels of the second method's colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - (0xE6, 0x9F, 0x00)).sum(2) < 30).sum())


def test_each_dataset_and_kind_of_validation_has_a_panel(tmp_path: Path) -> None:
    def picture(*places: tuple[str, str]) -> Path:
        parts = [
            measured
            for dataset, validation in places
            for severity in ("95 %", "99 %")
            for method in ("erm", "dfr")
            for measured in repeated(method, (5,), dataset=dataset, validation=validation, severity=severity)
        ]
        draw(rows(parts), tmp_path / f"{len(places)}.png")
        return tmp_path / f"{len(places)}.png"

    one, two = picture(("a", "given")), picture(("a", "given"), (HOSTILE, "given"))
    four = picture(("a", "given"), (HOSTILE, "given"), ("a", "biased"), (HOSTILE, "biased"))
    sizes = [Image.open(path).size for path in (one, two, four)]
    assert sizes[0] == (1080, 624) and sizes[2][0] > sizes[1][0] and sizes[2][1] > 1.8 * sizes[1][1]
    # A line of the second method in each panel.
    assert orange(four) > 1.6 * orange(two) > 0


@pytest.mark.parametrize("outcome", [[], [Failed("erm", "", "95 %", 0, "too few")]])
def test_a_curve_of_nothing_is_drawn(outcome: list[Failed], tmp_path: Path) -> None:
    draw(rows(outcome), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (1080, 624)

"""The bench's table: figures over seeds and repetitions, in every format, with hostile names."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fairsynth.commands.bench.picture import draw
from fairsynth.commands.bench.published import TABLES, Published
from fairsynth.commands.bench.rows import Measured, rows
from fairsynth.commands.bench.table import markdown
from fairsynth.commands.bench.values import to_csv, to_json
from fairsynth.groups import Group
from fairsynth.metrics import MethodScores, score

GROUPS = [Group(y, a) for y in "xy" for a in "pq"]


def scores(name: str, *right: tuple[int, int, int, int]) -> MethodScores:
    """Right ones of 10 images in each group, per training seed."""
    found = []
    for numbers in right:
        pairs = [(i < hits, g) for g, hits in zip(GROUPS, numbers, strict=True) for i in range(10)]
        found.append(score([hit for hit, _ in pairs], [g for _, g in pairs], GROUPS, dict.fromkeys(GROUPS, 1)))
    return MethodScores(name, tuple(range(len(right))), tuple(found))


def measured(method: str, severity: str, *right: tuple[int, int, int, int], **more: object) -> Measured:
    facts = {"variant": "", "repetition": 0, "images": 0, "seconds": 7.2} | more
    return Measured(method=method, severity=severity, scores=scores(method, *right), **facts)  # type: ignore[arg-type]


def table() -> list[Measured]:
    ours = {"variant": "a|b `$x$` <i>", "images": 1234, "seconds": 7200.0}
    return [
        measured("erm", "95 %", (9, 2, 9, 9), (9, 4, 9, 9), more={"ece": [0.1, None]}),
        measured("erm", "99 %", (9, 0, 9, 9), (9, 1, 9, 9), more={"ece": [0.1, 0.2]}),
        measured("fairsynth", "99 %", (8, 7, 9, 9), (9, 8, 6, 9), **ours),
    ]


def test_a_row_has_the_mean_and_students_interval_over_seeds() -> None:
    erm, _, ours = rows(table())
    assert (erm.method, erm.variant, erm.name, erm.severity) == ("erm", "", "ERM", "95 %")
    assert erm.mean("worst_group_accuracy") == pytest.approx(0.3)
    low, high = stats.t.interval(0.95, 1, 0.3, stats.sem([0.2, 0.4]))
    assert erm.interval("worst_group_accuracy") == pytest.approx((max(0, low), min(1, high)))
    assert erm.mean("accuracy") == pytest.approx((29 / 40 + 31 / 40) / 2)
    assert (erm.worst_group, erm.worst_group_n) == ("(x, q)", 10)
    # Of the two seeds' own worst groups: 7 and 6 of 10.
    assert ours.mean("worst_group_accuracy") == pytest.approx(0.65) and ours.images == 1234


def test_with_repetitions_the_interval_is_over_their_means() -> None:
    parts = [
        measured("erm", "95 %", (9, r, 9, 9), (9, r + 1, 9, 9), repetition=i, images=i, seconds=float(i))
        for i, r in enumerate((1, 3, 5))
    ]
    (row,) = rows(parts)
    means = [0.15, 0.35, 0.55]
    assert row.mean("worst_group_accuracy") == pytest.approx(0.35)
    low, high = stats.t.interval(0.95, 2, 0.35, stats.sem(means))
    assert low < 0 and row.interval("worst_group_accuracy") == pytest.approx((0, high))
    assert (row.images, row.seconds) == (1, 1.0)
    assert "over 3 repetitions of 2 training seeds" in markdown([row])


def test_one_training_has_no_interval_and_what_is_undefined_no_value() -> None:
    (row,) = rows([measured("erm", "95 %", (9, 2, 9, 9), more={"ece": [None]})])
    assert row.interval("worst_group_accuracy") is None and row.mean("ece") is None and row.interval("ece") is None
    assert "| ERM | 20.0 |" in markdown([row])


def test_the_markdown_has_a_line_per_method_and_a_column_per_severity() -> None:
    text = markdown(rows(table()), [Published("ERM", "original", 63.7, 88.0)], "GPU-hours")
    lines = text.splitlines()
    assert lines[2] == "| method | 95 % | 99 % |"
    assert lines[4].startswith("| ERM | 30.0 (0.0 – 100.0) | 5.0 (0.0 – ")
    # The name is text: it can neither begin a cell nor be mathematics or HTML.
    ours = lines[5]
    assert ours.startswith(r"| fairsynth, a\|b \`$x$\` \<i\> |  | 65.0 (") and ours.replace(r"\|", "").count("|") == 4
    assert r"| fairsynth, a\|b \`$x$\` \<i\> | 99 % | 1,234 | 2.000 |" in lines
    assert "Published by others, not measured here" in text and "| ERM | 63.7 / 88.0 |" in lines
    assert "GPU-hours" in text and "Published" not in markdown(rows(table()))


def test_the_csv_and_the_json_have_every_figure() -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(rows(table())))))
    assert [line["severity"] for line in read] == ["95 %", "99 %", "99 %"]
    assert float(read[0]["worst_group_accuracy"]) == pytest.approx(0.3) and read[0]["seeds"] == "2"
    assert read[0]["ece"] == "" and float(read[1]["ece"]) == pytest.approx(0.15) and read[2]["ece"] == ""
    assert float(read[2]["hours"]) == 2.0 and read[2]["images"] == "1234" and read[2]["variant"] == "a|b `$x$` <i>"
    first, _, ours = json.loads(json.dumps(to_json(rows(table())), allow_nan=False))
    assert first["figures"]["worst_group_accuracy"]["values"] == [[0.2, 0.4]]
    assert first["figures"]["ece"] == {"mean": None, "ci95": None, "values": None}
    assert ours["worker_seconds"] == 7200.0


def test_the_curve_bears_repetitions_with_equal_means(tmp_path: Path) -> None:
    third = (9, 3, 9, 9), (9, 4, 9, 9), (9, 3, 9, 9)
    draw(rows([measured("erm", "95 %", *third, repetition=i) for i in range(3)]), tmp_path / "a.png")
    # The mean of all, and the mean of the repetitions' means, may differ in their last bit.
    uneven = [measured("erm", "95 %", *[(9, 3, 9, 9)] * n, repetition=n) for n in (3, 7)]
    draw(rows(uneven), tmp_path / "b.png")
    assert (tmp_path / "b.png").exists()


def test_the_curve_shows_every_method(tmp_path: Path) -> None:
    draw(rows(table()), tmp_path / "a.png")
    draw(rows(table()[:2]), tmp_path / "b.png")
    one, other = (np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int) for name in ("a.png", "b.png"))
    assert one.shape[0] > 400 and one.shape[1] > 800

    def orange(pixels: np.ndarray) -> int:  # the second method's colour
        return int((np.abs(pixels - (0xE6, 0x9F, 0x00)).sum(2) < 30).sum())

    assert orange(one) > 50 and orange(other) == 0


def test_published_figures_are_those_of_the_page() -> None:
    assert set(TABLES) == {"waterbirds", "celeba", "utkface"}
    for rows_of in TABLES.values():
        assert len(rows_of) == 16 and {p.severity for p in rows_of} == {"original", "99.9 %"}
    assert Published("clustered-dreambooth", "99.9 %", 84.2, 88.5) in TABLES["waterbirds"]
    assert Published("Group-DRO", "99.9 %", 30.5, 50.3) in TABLES["utkface"]
    # The page's own means over the three datasets at both levels.
    means = {"vanilla": 71.3, "lora": 72.8, "dreambooth": 76.2, "clustered-dreambooth": 79.1}
    for method, mean in means.items():
        found = [p.worst_group_accuracy for rows_of in TABLES.values() for p in rows_of if p.method == method]
        assert np.mean(found) == pytest.approx(mean, abs=0.06)

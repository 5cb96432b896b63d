"""The numbers of the report's plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.stages.report.pictures.plots import group_lanes, method_lanes, read_bench, read_trials
from tests.support.report.texts import EVIL, QUOTES, report_of


def test_a_lane_is_a_figure_with_its_interval_in_percent() -> None:
    erm, ours = method_lanes(report_of()["methods"])
    assert (erm.name, erm.value, erm.low, erm.high, erm.ours) == ("ERM", pytest.approx(45), 0, 100, False)
    assert (erm.told, erm.interval) == ("45.0%", "0.0 to 100.0") and ours.ours


def test_the_groups_where_some_method_does_worst_come_first_and_empty_ones_last() -> None:
    groups = group_lanes(report_of()["methods"])
    assert [(group.label, group.attribute) for group in groups] == [
        (EVIL, "q"),
        (QUOTES, "q"),
        (EVIL, "p"),
        (QUOTES, "p"),
    ]
    empty = groups[-1].lanes[0]
    assert (empty.value, empty.low, empty.told, empty.interval) == (None, None, "not measured", "")
    assert group_lanes([]) == []


def test_trials_are_read_by_the_figure_that_chose(tmp_path: Path) -> None:
    lines = ["method,trial,worst_group_accuracy,worst_class_accuracy,accuracy,epochs,finished,chosen,epochs"]
    lines += ["erm,0,0.5,0.6,0.7,3,true,true,9", "erm,1,,,,3,false,false,9", "dfr,0,0.4,0.5,0.6,3,false,false,9"]
    (tmp_path / "trials.csv").write_text("\n".join(lines))
    erm, dfr = read_trials(tmp_path / "trials.csv", "worst-group")
    assert (erm.name, erm.dots, erm.tried, erm.chosen) == ("ERM", [(50.0, True, True)], 2, "50.0%")
    assert (dfr.dots, dfr.chosen) == ([(40.0, False, False)], "none")
    assert read_trials(tmp_path / "trials.csv", "accuracy")[0].dots == [(70.0, True, True)]
    assert read_trials(tmp_path / "trials.csv", "worst-class")[0].dots == [(60.0, True, True)]


def test_a_bench_is_a_curve_for_each_dataset() -> None:
    figure = {"worst_group_accuracy": {"mean": 0.5, "ci95": [0.4, 0.6], "values": [[0.5]]}}
    row = {"method": "erm", "variant": "", "severity": "95 %", "dataset": "", "validation": "given", "figures": figure}
    others = [
        {"severity": "99 %"},
        {"method": "fairsynth", "variant": "k 5", "figures": {}},
        {"dataset": EVIL, "validation": "biased"},
    ]
    curve, other = read_bench(json.dumps({"rows": [row, *(row | changed for changed in others)]}))
    assert (curve.title, other.title) == ("", f"{EVIL}, validation as biased as training")
    assert curve.levels == ["95 %", "99 %"] and [curve.place(0), curve.place(1)] == [25, 75]
    assert [(name, [lane and lane.told for lane in lanes]) for name, lanes in curve.rows] == [
        ("ERM", ["50.0%", "50.0%"]),
        ("fairsynth, k 5", ["not measured", None]),
    ]
    assert [lane.name for lane in curve.lanes(1)] == ["ERM"] and curve.lanes(0)[1].ours


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rows": [{}]}', "null", '{"rows": 3}'])
def test_what_is_no_bench_has_no_levels(text: str) -> None:
    assert read_bench(text) == []

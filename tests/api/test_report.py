"""The report, typed: figures as report.json has them, tables, and text that stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fairsynth as fs
from tests.api.test_images import HOSTILE, Texts

GROUPS = [("high", "flower"), ("high", HOSTILE)]


def figure(*values: float) -> dict[str, Any]:
    mean = sum(values) / len(values) if values else None
    return {"mean": mean, "ci95": [0.1, 0.9] if len(values) > 1 else None, "per_seed": list(values) or None}


def method(name: str, *worst: float) -> dict[str, Any]:
    groups = [
        {"label": label, "attribute": attribute, "n": n, "accuracy": accuracy, "ci95": [0.2, 0.8] if n else None}
        for (label, attribute), n, accuracy in zip(GROUPS, (8, 0), (0.5, None), strict=True)
    ]
    return {
        **{
            "name": name,
            "seeds": [*range(len(worst))],
            "worst_group_accuracy": figure(*worst),
            "accuracy": figure(0.75),
        },
        **{"worst_group": {"label": "high", "attribute": HOSTILE, "n": 0}, "groups": groups},
    }


def content(**changed: Any) -> dict[str, Any]:
    made = {"label": "high", "real": 3, "synthetic": 0, "generator": "none", "why": HOSTILE}
    return {
        "schema": 1,
        "verdict": "inconclusive",
        "verdict_why": f"few images of {HOSTILE}",
        "methods": [method("erm", 0.25, 0.75), method("fairsynth", 0.5), method("unheard-of")],
        "groups": [{**made, "attribute": attribute} for _, attribute in GROUPS],
        "synthetic_images": {"line": f"None were made: {HOSTILE}.", "would_help": []},
        "stages": [{"name": "ingest", "seconds": 0.5}],
        "policies": [],
        **changed,
    }


def test_figures_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(content()), "utf-8")
    report = fs.Report.read(tmp_path / "report.json")
    erm, ours = report.methods["erm"], report.methods["fairsynth"]
    assert (report.verdict, [*report.methods]) == ("inconclusive", ["erm", "fairsynth", "unheard-of"])
    assert erm.worst_group_accuracy == fs.Figure(0.5, (0.1, 0.9), (0.25, 0.75)) and erm.seeds == (0, 1)
    assert ours.worst_group_accuracy.interval is None and str(ours.accuracy) == "75.0%"
    assert str(report.methods["unheard-of"].worst_group_accuracy) == "not defined"
    assert (erm.title, report.methods["unheard-of"].title) == ("ERM", "unheard-of")
    assert erm.groups[0] == fs.GroupAccuracy(fs.Group("high", "flower"), 8, 0.5, (0.2, 0.8))
    assert erm.groups[1].accuracy is None and erm.worst_group == ("high", HOSTILE)
    assert report.groups[0] == fs.MadeGroup(fs.Group("high", "flower"), 3, 0, "none", HOSTILE)


def test_tables_have_a_row_for_each() -> None:
    report = fs.Report(content())
    methods = report.table("methods").to_pylist()
    assert [row["worst_group_accuracy"] for row in methods] == [0.5, 0.5, None] and methods[0]["high"] == 0.9
    accuracies = report.table("accuracies").to_pandas()
    assert len(accuracies) == 6 and accuracies.groupby("method").n.sum().to_dict()["erm"] == 8
    assert report.table("groups").column_names == ["label", "attribute", "real", "synthetic", "made_by", "why"]
    assert report.table("stages").to_pylist() == [{"name": "ingest", "seconds": 0.5}]
    assert report.table("policies").num_rows == 0
    with pytest.raises(fs.ConfigError, match="no table 'method'; there are: methods, accuracies, groups"):
        report.table("method")


def test_hostile_words_stay_text() -> None:
    report = fs.Report(content())
    page = Texts(report._repr_html_())
    assert page.tags <= {"p", "b", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert HOSTILE in page.texts and "<script" not in report._repr_html_()
    assert "\x1b" not in repr(report)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"schema": 2}'])
def test_a_file_that_is_no_report_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text, "utf-8")
    with pytest.raises(fs.DataError, match=r"is no report of fairsynth|has schema 2"):
        fs.open_run(tmp_path)

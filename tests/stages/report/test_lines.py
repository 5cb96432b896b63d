"""What the command line prints of a report."""

from __future__ import annotations

from fairsynth.stages.report.lines import table_lines, verdict_line
from fairsynth.stages.report.methods import method_entry
from tests.support.report.texts import EVIL, method, report_of


def test_the_table_has_the_values_of_each_method() -> None:
    head, erm, ours = table_lines(report_of())
    assert "worst-group accuracy (95 % over seeds)" in head and "worst group (n)" in head
    assert [word for word in erm.split() if "%" in word] == ["45.0%", "(0.0%", "100.0%)", "66.0%"]
    assert erm.startswith("ERM ") and erm.endswith(f"{EVIL}, q (10)")
    assert ours.startswith("fairsynth ") and ours.split()[1] == "75.0%"
    lone = {"methods": [method_entry(method("group-dro", (9, 5, 3)))]}
    assert "Group-DRO" in table_lines(lone)[1] and "(one seed)" in table_lines(lone)[1]


def test_labels_cannot_steer_the_terminal() -> None:
    report = report_of()
    report["methods"][0]["worst_group"]["label"] = "\x1b[2J\x1b]0;owned\x07"
    assert all(line.isprintable() for line in table_lines(report))


def test_a_verdict_says_what_stands_in_its_way() -> None:
    told = verdict_line({"verdict": "inconclusive", "verdict_why": "\x1b[2Jfew"})
    assert told.startswith("verdict: inconclusive (") and told.isprintable()
    assert verdict_line({"verdict": "improved", "verdict_why": ""}) == "verdict: improved"

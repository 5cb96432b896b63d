"""The history of the benchmarks: nothing is lost, nothing told twice, and the newest line is what the result file says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks import history
from benchmarks.history import FIGURES, appended, known_lines, lines_of, machine_of, page
from tests.support.docs.measured.results import result
from tests.support.structure import ROOT

LINES = known_lines(ROOT / history.LINES)


def test_the_page_is_what_the_program_writes() -> None:
    assert (ROOT / history.PAGE).read_text("utf-8") == page(LINES), "python benchmarks/history.py writes it anew"


def test_every_line_says_what_when_at_which_commit_and_where_once() -> None:
    assert all(line.keys() == {"figure", "value", "date", "commit", "machine", "result"} for line in LINES)
    assert all(re.fullmatch(r"2\d{3}-\d\d-\d\d", line["date"]) for line in LINES)
    assert all(re.fullmatch(r"[0-9a-f]{7}", line["commit"]) and line["machine"] for line in LINES)
    assert all(FIGURES[line["figure"]].result == line["result"] for line in LINES)
    assert appended([], iter(LINES)) == LINES


@pytest.mark.parametrize("name", sorted({figure.result for figure in FIGURES.values()}))
def test_what_a_result_file_says_now_is_in_the_history(name: str) -> None:
    now = list(lines_of(name, result(name), "0000000"))
    assert {line["figure"] for line in now} == {key for key, figure in FIGURES.items() if figure.result == name}
    assert appended(LINES, iter(now)) == [], "python benchmarks/history.py appends it"


def test_a_file_that_lacks_a_figure_has_no_line_for_it() -> None:
    told = {"cpu": "AMD EPYC", "cores": 2, "date": "2026-11-29 23:48 UTC"}
    (line,) = lines_of("many_units", {"overhead": 0.126, **told}, "abcdef0")
    assert line["value"] == 12.6 and line["date"] == "2026-11-29" and line["machine"] == "2 cores of an AMD EPYC"
    assert list(lines_of("many_units", told, "abcdef0")) == [] == list(lines_of("many_units", {"overhead": 1}, "x"))
    assert machine_of({"cpu": "Intel(R) Xeon(R) Processor", "cores": 2}) == "2 cores of an Intel Xeon"
    assert machine_of({"device": "NVIDIA H100 80GB HBM3"}) == "one NVIDIA H100"


def test_a_measurement_that_is_known_is_not_appended_again() -> None:
    one: dict[str, Any] = {"figure": "search", "date": "2026-11-26", "machine": "m", "value": 1.07, "commit": "aaaaaaa"}
    other = one | {"value": 1.05}
    assert appended([one], iter([one | {"commit": "bbbbbbb"}, other, other])) == [other]
    assert json.loads(json.dumps(one)) == one


def test_tables_are_in_the_order_of_dates() -> None:
    lines = [
        {
            "figure": "search",
            "date": date,
            "machine": "m",
            "value": value,
            "commit": "aaaaaaa",
            "result": "search_overhead",
        }
        for date, value in (("2026-12-01", 1.01), ("2026-11-26", 1.07))
    ]
    assert page(lines).endswith("| 2026-11-26 | `aaaaaaa` | m | 1.07 |\n| 2026-12-01 | `aaaaaaa` | m | 1.01 |\n")
    assert page([]) == history._HEAD

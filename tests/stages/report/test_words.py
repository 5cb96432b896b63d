"""What the report says beside its figures."""

from __future__ import annotations

from fairsynth.stages.report.page import page, verdict_line
from tests.stages.report.test_page import QUOTES, report
from tests.support.ingesting import Page

__all__ = ["report"]

IMAGE = "data:image/png;base64,AAAA"


def test_below_the_search_stands_why_its_figures_do_not_compare_methods(report: dict) -> None:
    told = Page(page(report | {"search_note": f"not methods {QUOTES}"}, [], IMAGE)).text
    assert f"not methods {QUOTES}" in told.split("\nSearch")[1].split("\nData")[0]
    assert "not methods" not in page(report | {"search_note": ""}, [], IMAGE)


def test_a_verdict_says_what_stands_in_its_way(report: dict) -> None:
    why = f"a worst group, {QUOTES}, has 1 test image"
    told = " ".join(Page(page(report | {"verdict": "inconclusive", "verdict_why": why}, [])).text.split())
    assert f"over training seeds and test images; {why})." in told
    # Beside every method's difference, too: these groups have 10 test images and fewer.
    assert f"inconclusive ({report['methods'][0]['fairsynth_minus_this']['why']})" in told
    told = verdict_line({"verdict": "inconclusive", "verdict_why": "\x1b[2Jfew"})
    assert told.startswith("verdict: inconclusive (") and told.isprintable()
    assert verdict_line({"verdict": "improved", "verdict_why": ""}) == "verdict: improved"

"""What the report says beside its figures."""

from __future__ import annotations

from fairsynth.stages.report.page import page
from tests.stages.report.test_page import QUOTES, report
from tests.support.ingesting import Page

__all__ = ["report"]

IMAGE = "data:image/png;base64,AAAA"


def test_below_the_search_stands_why_its_figures_do_not_compare_methods(report: dict) -> None:
    told = Page(page(report | {"search_note": f"not methods {QUOTES}"}, [], IMAGE)).text
    assert f"not methods {QUOTES}" in told.split("\nSearch")[1].split("\nData")[0]
    assert "not methods" not in page(report | {"search_note": ""}, [], IMAGE)

"""Every measured figure in README and docs is computed from a result file, or listed with the reason why it is not."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from tests.support.docs.measured import chaos, comparing, demo, history, plan, scale, sets, speed, startup, worlds
from tests.support.docs.measured.results import percent, result
from tests.support.docs.measured.text import figures, flat, said, uncovered
from tests.support.docs.measured.unsourced import NO_MEASUREMENTS, UNSOURCED, Span
from tests.support.docs.pages import ROOT, read_pages

# The one is written by a program from settings; the other tells what changed.
PAGES = {name: text for name, text in read_pages().items() if name not in ("docs/configuration.md", "CHANGELOG.md")}
RESULTS = sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json"))
SAYINGS: dict[str, list[str]] = defaultdict(list)
for source in (chaos, comparing, demo, history, plan, scale, sets, speed, startup, worlds):
    for page, found in source.sayings().items():
        SAYINGS[page] += found


def listed(span: Span) -> str:
    """The text of a page that an entry stands for."""
    text, start, end = flat(PAGES[span.page]), flat(span.start), flat(span.end)
    assert text.count(start) == 1, f"{span.page} has not one {start!r}"
    rest = text[text.index(start) :]
    assert end in rest, f"{span.page}: no {end!r} after {start!r}"
    return rest[: rest.index(end) + len(end)] if end else start


@pytest.mark.parametrize("page", PAGES)
def test_every_measured_figure_is_computed_from_its_file_or_listed(page: str) -> None:
    known = [listed(span) for span in (*UNSOURCED, *NO_MEASUREMENTS) if span.page == page]
    bare, wrong = uncovered(PAGES[page], [*SAYINGS[page], *known])
    assert wrong == [], "the page does not say this, which follows from benchmarks/results/"
    assert bare == [], "compute it in tests/support/docs/measured/, or list it in unsourced.py with the reason"


def test_what_is_listed_has_figures_and_a_reason() -> None:
    assert [span for span in (*UNSOURCED, *NO_MEASUREMENTS) if not figures(listed(span)) or not span.why] == []
    assert [span for span in UNSOURCED if "2026-11-" not in span.why] == []
    # No more than there were when this was written.
    assert sum(len(figures(listed(span))) for span in UNSOURCED) <= 160


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_file_says_where_and_when_or_by_which_settings_and_a_page_names_it(name: str) -> None:
    text = json.dumps(result(name))
    assert ('"date"' in text and ('"cpu"' in text or '"device"' in text)) or "config" in result(name)
    assert "/work/" not in text and "/home/" not in text
    assert f"`benchmarks/results/{name}.json`" in "".join(PAGES.values())


def test_the_prose_of_the_demo_agrees_with_its_report() -> None:
    report = result("demo")["report"]
    assert report["verdict"] == "improved" and report["synthetic_images"]["used_as"] == "none"
    assert "about 149 validation images of each group" in flat(PAGES["README.md"]) and demo.validation_images() == 148.5


def test_a_figure_that_is_wrong_or_new_is_found() -> None:
    page = "# A\n\n| m | n |\n|---|---|\n| a | 1.5 |\n\nIt takes 3 s, 95 % interval, at 99.9 %, `4 s`, and 20 %.\n"
    assert uncovered(page, ["| a | 1.5 |", "It takes 3 s", "and 20 %."]) == ([], [])
    assert uncovered(page, ["| a | 1.4 |", "It takes 3 s", "and 20 %."])[1] == ["| a | 1.4 |"]
    assert [text.split()[-1] for text in uncovered(page, ["| a | 1.5 |", "and 20 %."])[0]] != []
    assert len(uncovered(page, [])[0]) == 3
    with pytest.raises(AssertionError, match="not computed"):
        said("it takes 3 s and {}", percent(0.5))

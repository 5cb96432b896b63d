"""report.html in headless Chromium, opened from the disk: of a run, and of made-up ones with hostile names and many groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairsynth.groups import Group
from fairsynth.stages.report.content import content
from fairsynth.stages.report.page import PARTS, page
from fairsynth.stages.report.pictures.shown import shown
from tests.support.report.browser import browser, need_chromium, opened
from tests.support.report.finished_stages import World, finished

pytestmark = pytest.mark.slow

MOST_BYTES = 10_000_000
SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
HOSTILE = [
    Group(SCRIPT, IMAGE),
    Group(SCRIPT, "\u202egnp.exe"),
    Group("w" * 200, IMAGE),
    Group("name " * 40, "\u2067\u202e\u0007"),
]
PLAIN = [Group(label, attribute) for label in ("ja", "nein") for attribute in ("a", "b")]
FORTY = [Group(f"label {i // 20} {'x' * 40}", f"attribute {i % 20} of some people in places") for i in range(40)]
ROW = {
    "method": "erm",
    "variant": IMAGE,
    "dataset": SCRIPT,
    "figures": {"worst_group_accuracy": {"mean": 0.5, "ci95": [0.4, 0.6]}},
}
BENCH = json.dumps({"rows": [ROW | {"severity": severity} for severity in ("original", "95 %", "w" * 200)]})
WORLDS = {
    "hostile names, one seed, a shortfall": (World(HOSTILE, seeds=1, text=IMAGE, shortfall=2), BENCH),
    "forty groups": (World(FORTY, seeds=2, side=80, images=24, clusters=2), ""),
    "no synthetic images, discovered": (World(PLAIN, images=0, discovered=True), ""),
    "a failed self-test, blurred, one method": (World(PLAIN, passed=False, faces="blurred", methods=("erm",)), ""),
}
_HIDDEN = "[...document.querySelectorAll('details')].forEach(each => each.open = true)"
_TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"
_LOST = "[...document.images].filter(image => !image.naturalWidth).map(image => image.alt)"
_GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    need_chromium()
    with browser() as found:
        yield found


def check(chromium: Any, file: Path, parts: list[str]) -> None:
    """What must hold of every report, at the width of a phone and of a screen, closed and with everything unfolded."""
    assert file.stat().st_size < MOST_BYTES
    for width in (375, 1440):
        seen = opened(chromium, file, width)
        assert seen.asks("[...document.querySelectorAll('main section')].map(each => each.id)") == parts
        for unfold in ("0", _HIDDEN):
            seen.asks(unfold)
            assert seen.asks(_TOO_WIDE) <= 0
            seen.page.wait_for_function(f"{_LOST}.length == 0")
        assert [url for url in seen.requests if not url.startswith("data:")] == [file.as_uri()]
        assert seen.complaints == []
        assert seen.asks("document.scripts.length") == 0
        seen.page.close()


def parts_of(with_bench: bool) -> list[str]:
    return ["verdict", *(part for part in PARTS if with_bench or part != "severity")]


def test_the_report_of_a_run(chromium: Any, finished_run: Path) -> None:
    file = finished_run / "report.html"
    check(chromium, file, parts_of(False))
    seen = opened(chromium, file)
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    assert seen.page.inner_text("#verdict h2") == f"Verdict: {report['verdict']}"
    assert report["in_words"]["verdict"] in seen.page.inner_text("#verdict")
    checks = [check["name"] for check in report["checks"] if check["passed"] is False]
    # A classifier of one epoch may well be bad, and a detector may not pass on so few images; the rest holds.
    assert set(checks) <= {"The detector of copies passed its self-test"}
    # The verdict, what to do and every check are seen without scrolling.
    assert seen.asks("document.querySelector('#verdict').getBoundingClientRect().top") < 300
    assert seen.asks("document.querySelector('#checks li:first-child').getBoundingClientRect().bottom") < 900


@pytest.mark.parametrize("name", WORLDS)
def test_the_report_of_a_made_up_run(chromium: Any, tmp_path: Path, name: str) -> None:
    world, bench = WORLDS[name]
    inputs, images = finished(tmp_path, world)
    report = content(inputs)
    json.dumps(report, allow_nan=False)
    file = tmp_path / "report.html"
    file.write_text(page(report, shown(inputs, images, bench)), "utf-8")
    check(chromium, file, parts_of(bool(bench)))
    if world.groups is HOSTILE:
        text = opened(chromium, file, 375).asks(f"{_HIDDEN}, document.body.textContent")
        assert text.count(SCRIPT) > 20 and text.count(IMAGE) > 20


def test_dark_mode_and_print(chromium: Any, finished_run: Path, tmp_path: Path) -> None:
    file = finished_run / "report.html"
    assert opened(chromium, file).asks(_GROUND) == "rgb(255, 255, 255)"
    seen = opened(chromium, file, 375, "dark")
    assert seen.asks(_GROUND) == "rgb(20, 25, 31)" and seen.asks(_TOO_WIDE) <= 0
    colour = "getComputedStyle(document.querySelector('.lanes .mark')).fill"
    dark = seen.asks(colour)
    # On paper everything is light and unfolded, also for those whose screen is dark.
    seen.page.emulate_media(media="print")
    assert seen.asks(_GROUND) == "rgb(255, 255, 255)" and seen.asks(colour) != dark
    assert seen.asks("document.querySelector('details:not([open]) table').getBoundingClientRect().height") > 20
    assert seen.asks("getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = seen.page.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF") and seen.complaints == []

"""The page: right figures, text from data that stays text, and nothing from elsewhere."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from fairsynth.config.load import load_config
from fairsynth.exports.terms import model_terms
from fairsynth.groups import Group
from fairsynth.stages.report.methods import method_entry
from fairsynth.stages.report.page import PARTS, page
from fairsynth.stages.report.pictures.grids import Grid, Row
from fairsynth.stages.report.pictures.plots import Curve, method_lanes
from fairsynth.stages.report.pictures.sheets import Sheet
from fairsynth.stages.report.pictures.shown import Shown
from tests.support.audits import audit
from tests.support.ingesting import Page
from tests.support.report.texts import EVIL, QUOTES, method, report_of, told

PICTURE = Sheet(QUOTES, "data:image/webp;base64,AAAA", 1, 3, 1, 1)
NOTHING = Sheet(EVIL, "", 0, 0)
PICTURES = Shown(grids=[Grid(Group(EVIL, QUOTES), Row("", PICTURE, NOTHING, [NOTHING]), [])])


@pytest.fixture
def report() -> dict[str, Any]:
    return report_of()


def text(report: dict[str, Any], shown: Shown | None = None) -> str:
    return " ".join(Page(page(report, shown)).text.split()).replace(" ,", ",")


def test_the_page_begins_with_the_verdict_and_what_to_do(report: dict[str, Any]) -> None:
    report = told(report | {"verdict": "inconclusive", "verdict_why": f"{QUOTES} has 1 test image"})
    seen = text(report).split("fairsynth report", 2)[-1]
    order = ("Verdict: inconclusive", report["in_words"]["verdict"], report["in_words"]["compared"],
             f"Images were {EVIL}", "What to do next", f"{QUOTES} has 1 test image", "Checks that must hold", "Data")  # fmt: skip
    places = [seen.index(part) for part in order]
    assert places == sorted(places)


def test_every_check_is_told_and_a_failed_one_stands_out(report: dict[str, Any]) -> None:
    assert "All that apply have passed." in text(report) and "✓ passed No image is lost" in text(report)
    checks = [
        {"key": "a", "name": "A", "passed": False, "detail": EVIL},
        {"key": "b", "name": "B", "passed": None, "detail": "none"},
    ]
    seen = text(told(report | {"checks": checks}))
    assert "1 of 2 checks failed. They" in seen and f"✗ FAILED A {EVIL}" in seen and "– does not apply B none" in seen


def test_what_the_base_models_licence_says_is_told(report: dict[str, Any]) -> None:
    terms = model_terms(load_config(None, "demo", {"models.diffusion": "stabilityai/stable-diffusion-3.5-medium"}))
    seen = text(report | {"provenance": report["provenance"] | {"base_model": terms | {"model": EVIL}}})
    assert f"Base model: {EVIL} . Its licence: Stability AI Community License." in seen
    assert "by these words the classifier is one" in seen and "1 million US dollars" in seen
    # Reports of earlier versions have no such entry.
    assert "Its licence" not in text(report)


def test_every_part_is_there_and_linked(report: dict[str, Any]) -> None:
    lanes = method_lanes(report["methods"])
    curve = Curve(QUOTES, ["95 %", EVIL], [(lane.name, [lane, None]) for lane in lanes])
    elements = Page(page(report, Shown(curves=[curve]))).elements
    ids = {attributes["id"] for tag, attributes in elements if tag == "section"}
    assert ids == {*PARTS, "verdict"}
    assert {a["href"] for tag, a in elements if tag == "a"} == {f"#{part}" for part in PARTS} | {"#main"}
    without = Page(page(report)).elements
    assert "severity" not in {a["id"] for tag, a in without if tag == "section"}


def test_headings_go_down_step_by_step_and_sections_are_named(report: dict[str, Any]) -> None:
    elements = Page(page(report, PICTURES)).elements
    levels = [int(tag[1]) for tag, _ in elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    titled = {a["id"] for tag, a in elements if tag == "h2"}
    assert all(a["aria-labelledby"] in titled for tag, a in elements if tag == "section")
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in elements}


def test_text_from_data_stays_text(report: dict[str, Any]) -> None:
    report["methods"][0]["name"] = QUOTES
    seen = Page(page(told(report), PICTURES))
    assert not {"script", "iframe", "object", "base", "form"} & {tag for tag, _ in seen.elements}
    assert [a.get("src") for tag, a in seen.elements if tag == "img"] == [PICTURE.uri]
    assert not [key for _, attributes in seen.elements for key in attributes if key.startswith("on")]
    assert EVIL in seen.text and QUOTES in seen.text and f"{EVIL} 17" in seen.text


def test_the_page_loads_nothing_from_elsewhere(report: dict[str, Any]) -> None:
    html = page(report, PICTURES)
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    elements = Page(html).elements
    links = [value for _, a in elements for key, value in a.items() if key in ("src", "href", "srcset", "action")]
    assert all(str(link).startswith(("#", "data:image/webp;base64,")) for link in links)
    policies = [
        a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert (
        len(policies) == 1 and str(policies[0]).startswith("default-src 'none';") and "script" not in str(policies[0])
    )


def test_every_picture_has_words(report: dict[str, Any]) -> None:
    elements = Page(page(report, PICTURES)).elements
    assert [a["alt"] for tag, a in elements if tag == "img"] == [f"1 images of {EVIL}, {QUOTES}: {QUOTES}"]
    drawings = [a for tag, a in elements if tag == "svg"]
    assert drawings and all(
        a.get("aria-label") if a.get("role") == "img" else a["aria-hidden"] == "true" for a in drawings
    )
    blurred = Shown(grids=PICTURES.grids, faces="blurred")
    assert "pictures are blurred (report.faces)" in text(report, blurred)
    assert all(str(a["alt"]).endswith(", blurred") for tag, a in Page(page(report, blurred)).elements if tag == "img")
    assert "Pictures are hidden (report.faces)" in text(report, Shown(faces="hidden"))


def test_accuracies_are_told_beside_their_drawings(report: dict[str, Any]) -> None:
    seen = text(report)
    assert "ERM 45.0% (0.0 to 100.0)" in seen and f"because they have no test images: {QUOTES}, p ." in seen
    assert "against ERM: +30.0 points" in seen and "32.0%" in seen and "16.2%" in seen and "7.2%" in seen
    report["methods"][0]["ece"] = {"mean": None, "ci95": None, "per_seed": None}
    assert not re.search(r"\bnan\b", text(report).lower())


def test_the_page_shows_the_figures(report: dict[str, Any]) -> None:
    seen = text(report)
    for figures in (
        "4321 1234 (1300) own: same-attribute 3 1700 70.0% 71 of 91",
        "embed 12.3 1.5 2 0.007 7 2 90 80 6 4",
        "Seed of all draws: 5. Generator: lora.",
    ):
        assert figures in seen


def test_how_fairsynth_used_its_images_is_told_where_it_took_part(report: dict[str, Any]) -> None:
    seen = text(report)
    assert "trained: learnt from real and synthetic images together, then the linear layer" in seen
    assert "(mix, dfr, choose, light)" in seen
    del report["settings"]["fairsynth"]
    assert "(mix, dfr" not in text(report)


def test_the_page_says_what_became_of_the_images(report: dict[str, Any]) -> None:
    seen = text(report)
    assert "99 images = 88 used + 7 quarantined + 4 left out" in seen
    assert f"Quarantined, by reason reason images empty 5 {EVIL} 2" in seen and "Excluded" not in seen
    assert "Severity 99.9 % (seed 3): 654 training images kept, 321 left out" in seen and "0123456789abcdef" in seen
    assert f"{QUOTES} a remark" in seen
    report["data"] |= {"severity": None, "remarks": []}
    assert "Severity" not in text(report) and "Remarks on the data" not in text(report)
    report["synthetic_images"]["not_made"] = [f"{EVIL}: why"]
    report["groups"][0] |= {"generator": "none", "way": "none"}
    assert f"Groups that were not made: {EVIL}: why" in text(report) and "(1300) not made 3" in text(report)


def test_the_page_shows_the_audit_beside_its_references(report: dict[str, Any]) -> None:
    seen = text(report)
    both = f"{QUOTES}, {QUOTES}"
    assert f"{both} synthetic, all made – 50.0%, 25.0%, 12.5% 50.0%, 25.0%, 12.5% – – – – – – –" in seen
    assert f"{both} synthetic, accepted 1234 50.0%, 25.0%, 12.5% – 0.250 0.2500 0.25" in seen
    assert f"{both} real, held out 77 – – – – – – – – –" in seen
    assert f"{QUOTES} 50.0% 50.0% 0.61 (0.60 to 0.62) –" in seen
    assert "3 of 600 accepted images look like copies of one of 500 training images (of 900)" in seen
    assert "96.0% of 300 planted copies (flipped 96.0%), and took 96.0% of 300 held-out" in seen
    assert "50.0% of 90 40.0% to 60.0% 45.0% 0.41 0.42" in seen
    assert "right about the label in 87.5% and about the attribute in –" in seen


def test_copies_are_not_measured_without_a_passed_self_test(report: dict[str, Any]) -> None:
    report["audit"] = audit(QUOTES, passed=False)
    seen = text(report)
    assert "Privacy was not measured" in seen and "the detector of copies did not pass" in seen
    assert "look like copies of one of" not in seen
    report["audit"]["copies"]["self_test"] = {"passed": False, "why": "too few real images"}
    assert "too few real images." in text(report)


def test_discovered_attributes_are_told_and_compared_with_the_true_ones(report: dict[str, Any]) -> None:
    assert "were discovered" not in page(report)
    report["discovered"] = {"kinds": 4, "agreement": None, "true_groups": []}
    seen = text(report)
    assert "Attributes were discovered" in seen and "inside each label 4 clusters" in seen and "true one" not in seen
    entry = {"label": EVIL, "n": 77, "adjusted_mutual_information": 0.456, "purity": 0.912, "kinds": {}}
    true_groups = [method_entry(method("erm", (9, 5, 3)))]
    report["discovered"] |= {"agreement": {"train": [entry], "test": [entry]}, "true_groups": true_groups}
    seen = text(report)
    assert f"{EVIL} training 77 0.46 91.2%" in seen and f"{EVIL} test 77 0.46 91.2%" in seen
    assert f"ERM 50.0% {EVIL}, q (10) 68.0%" in seen


# Fault case 69: nothing is there to report.
def test_a_report_without_synthetic_images_has_a_page(report: dict[str, Any]) -> None:
    report["groups"][0] |= {"synthetic": 0, "rejected": {}, "k": 0, "generator": "prompt"}
    report["audit"] |= {"groups": [], "clusters": [], "shortcuts": []}
    report["audit"]["copies"] |= {"images": 0}
    seen = text(report, PICTURES)
    assert (
        "There are no synthetic images to look at." in seen
        and "There are no synthetic images that could be copies." in seen
    )
    assert "There is no map" in seen and f"none {EVIL}" in seen


def test_below_the_search_stands_why_its_figures_do_not_compare_methods(report: dict[str, Any]) -> None:
    seen = text(report | {"search_note": f"not methods {QUOTES}"})
    assert f"not methods {QUOTES}" in seen.split("The search for settings")[1].split("Time and cost")[0]


def test_limits_are_those_of_this_run(report: dict[str, Any]) -> None:
    seen = text(report)
    assert "only 2 training seeds" in seen and "are uncertain: 3." in seen
    assert "nothing is known: 1." in seen and "No synthetic images were made" not in seen
    report["synthetic_images"]["images"] = 0
    assert "No synthetic images were made" in text(report)

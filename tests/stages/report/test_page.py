"""The report: right figures, and text from data that stays text."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from fairsynth.groups import Group
from fairsynth.metrics import MethodScores, score, wilson
from fairsynth.stages.report.page import method_entry, page, sheet, table_lines
from tests.support.audits import MADE, audit, synthesis
from tests.support.datasets import encoded
from tests.support.ingesting import Page

EVIL = "<img src=x onerror=alert(1)>"
QUOTES = "\"><script>alert('x')</script>{{ 7*7 }}&amp;"
GROUPS = [Group(EVIL, "p"), Group(EVIL, "q"), Group(QUOTES, "p"), Group(QUOTES, "q")]


def method(name: str, *right: tuple[int, int, int]) -> MethodScores:
    """A method with so many right of 10, 10, 0 and 5 images in each seed."""
    scores = []
    for numbers in right:
        counts = list(zip(GROUPS, (10, 10, 0, 5), (*numbers[:2], 0, numbers[2]), strict=True))
        pairs = [(i < hits, group) for group, n, hits in counts for i in range(n)]
        scores.append(score([hit for hit, _ in pairs], [g for _, g in pairs], GROUPS, dict.fromkeys(GROUPS, 1)))
    return MethodScores(name, tuple(range(len(right))), tuple(scores))


MORE = {"equalized_odds_difference": [0.31, 0.33], "ece": [0.071, 0.073]}


@pytest.fixture
def report() -> dict:
    group = {
        "label": EVIL,
        "attribute": QUOTES,
        "real": 4321,
        "synthetic": 1234,
        "generator": "own",
        "k": 3,
        "rejected": {EVIL: 17},
        "remark": QUOTES,
    } | MADE
    stage = {
        "name": "embed",
        "seconds": 12.34,
        "startup_seconds": 1.5,
        "units": 7,
        "cached": 2,
        "input": 90,
        "used": 80,
        "quarantined": 6,
        "excluded": 4,
    }
    ours = method("fairsynth", (8, 8, 4), (8, 7, 4))
    methods = [
        method_entry(method("erm", (9, 5, 3), (10, 4, 2)), MORE, ours),
        method_entry(ours, {"equalized_odds_difference": [0.1234, 0.2], "ece": [None, 0.1]}, ours),
    ]
    severity = {"ratio": 0.999, "seed": 3, "kept": 654, "removed": 321, "sha256": "0123456789abcdef" * 4}
    data = {
        "counts": {"input": 99, "used": 88, "quarantined": 7, "excluded": 4},
        "reasons": {"quarantined": {"empty": 5, EVIL: 2}, "excluded": {}},
        "severity": severity,
        "remarks": [QUOTES, "a remark"],
    }
    return {
        "verdict": "not improved",
        "synthetic_images": {"line": f"Synthetic images were {EVIL}", "would_help": [], "not_made": []},
        "data": data,
        "discovered": None,
        "methods": methods,
        "groups": [group],
        "synthesis": synthesis(EVIL),
        "settings": {"erm": {"epochs": 3}, "fairsynth": {"synthetic": "mix", "stage_2": "dfr", "epochs": 3}},
        "audit": audit(QUOTES),
        "stages": [stage],
    }


def test_further_figures_are_told_and_what_is_undefined_is_a_dash(report: dict) -> None:
    erm, ours = report["methods"]
    assert erm["ece"]["mean"] == pytest.approx(0.072) and erm["ece"]["per_seed"] == [0.071, 0.073]
    assert ours["ece"] == {"mean": None, "ci95": None, "per_seed": None}
    text = Page(page(report, [])).text
    assert "32.0%" in text and "16.2%" in text and "7.2%" in text


def test_the_first_line_says_what_became_of_the_synthetic_images(report: dict) -> None:
    seen = Page(page(report, [])).text.split("fairsynth report")[-1].split()
    assert " ".join(seen).startswith(f"Synthetic images were {EVIL} Verdict:")
    assert "would help" not in page(report, []) and "not made" not in page(report, [])
    report["synthetic_images"] = {"line": "They did not help.", "would_help": [QUOTES], "not_made": [f"{EVIL}: why"]}
    report["groups"][0] |= {"generator": "none", "way": "none"}
    text = " ".join(Page(page(report, [])).text.split())
    assert f"fairsynth report They did not help. What would help: {QUOTES} Verdict:" in text
    assert f"Groups that were not made: {EVIL}: why" in text and "(1300) not made 3" in text


def test_how_fairsynth_used_its_images_is_told_where_it_took_part(report: dict) -> None:
    text = Page(page(report, [])).text
    assert "fairsynth's classifier: learnt from real and synthetic images together, then the linear layer" in text
    assert "(mix, dfr, choose, light)" in text
    del report["settings"]["fairsynth"]
    assert "fairsynth's classifier" not in Page(page(report, [])).text


def test_methods_are_compared_with_fairsynth_seed_by_seed(report: dict) -> None:
    erm, ours = report["methods"]
    # 8 of 10 and 7 of 10 against 5 of 10 and 4 of 10.
    found = erm["fairsynth_minus_this"]
    assert (found["mean"], found["ci95_repeats"]) == (pytest.approx(0.3), [pytest.approx(0.3)] * 2)
    assert found["ci95"][0] < 0 and found["verdict"] == "inconclusive" and "10 are needed" not in found["why"]
    assert "fairsynth_minus_this" not in ours
    text = Page(page(report, [])).text
    assert "fairsynth against ERM: +30.0 points" in " ".join(text.split())


def test_each_group_has_the_interval_that_its_test_images_allow(report: dict) -> None:
    group = report["methods"][0]["groups"][0]
    assert (group["n"], group["accuracy"]) == (10, 0.95)
    assert group["ci95"] == pytest.approx(list(wilson(10, 10)))  # 9.5 of 10, rounded to even
    assert report["methods"][0]["groups"][2]["ci95"] is None


def test_a_method_entry_has_every_figure_and_an_empty_group_has_none() -> None:
    entry = method_entry(method("erm", (9, 5, 3), (10, 4, 2)))
    wga = entry["worst_group_accuracy"]
    assert entry["name"] == "erm" and entry["seeds"] == [0, 1]
    assert wga["per_seed"] == [0.5, 0.4] and wga["mean"] == pytest.approx(0.45)
    assert wga["ci95"] == [0.0, 1.0]  # .45 -+ 12.7 * .05, cut to what an accuracy can be
    assert entry["accuracy"]["per_seed"] == [17 / 25, 16 / 25]
    assert entry["accuracy_group_mean"]["per_seed"] == pytest.approx([(0.9 + 0.5 + 0.6) / 3, (1 + 0.4 + 0.4) / 3])
    assert [(g["n"], g["accuracy"]) for g in entry["groups"]] == [
        (10, pytest.approx(0.95)),
        (10, pytest.approx(0.45)),
        (0, None),
        (5, pytest.approx(0.5)),
    ]
    assert entry["worst_group"] == {"label": EVIL, "attribute": "q", "n": 10}


def test_a_figure_that_is_undefined_is_null_and_a_dash(report: dict) -> None:
    # The groups with test images have no training images, so the training prior says nothing.
    undefined = [score([True, False], [GROUPS[0], GROUPS[1]], GROUPS, {GROUPS[2]: 5}) for _ in range(2)]
    entry = method_entry(MethodScores("erm", (0, 1), tuple(undefined)), MORE)
    assert entry["accuracy_train_prior"] == {"mean": None, "ci95": None, "per_seed": None}
    json.dumps(entry, allow_nan=False)
    report["methods"] = [entry]
    assert "–" in page(report, []) and "nan" not in page(report, []).lower()


def test_one_seed_has_no_interval() -> None:
    assert method_entry(method("erm", (9, 5, 3)))["worst_group_accuracy"]["ci95"] is None


def test_the_table_has_the_values_of_each_method(report: dict) -> None:
    head, erm, ours = table_lines(report)
    assert "worst-group accuracy (95 % over seeds)" in head and "worst group (n)" in head
    assert [word for word in erm.split() if "%" in word] == ["45.0%", "(0.0%", "100.0%)", "66.0%"]
    assert erm.startswith("ERM ") and erm.endswith(f"{EVIL}, q (10)")
    assert ours.startswith("fairsynth ") and ours.split()[1] == "75.0%"
    lone = {"methods": [method_entry(method("group-dro", (9, 5, 3)))]}
    assert "Group-DRO" in table_lines(lone)[1] and "(one seed)" in table_lines(lone)[1]


def test_labels_cannot_steer_the_terminal(report: dict) -> None:
    report["methods"][0]["worst_group"]["label"] = "\x1b[2J\x1b]0;owned\x07"
    assert all(line.isprintable() for line in table_lines(report))


def test_text_from_data_stays_text(report: dict) -> None:
    report["methods"][0]["name"] = QUOTES
    seen = Page(page(report, [{"title": EVIL, "images": [(QUOTES, sheet([])), (EVIL, "data:image/png;base64,AAAA")]}]))
    assert not {"script", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in seen.elements}
    assert [attributes.get("src") for tag, attributes in seen.elements if tag == "img"] == [
        "data:image/png;base64,AAAA"
    ]
    assert not [key for _, attributes in seen.elements for key in attributes if key.startswith("on")]
    assert EVIL in seen.text and QUOTES in seen.text and f"{EVIL} 17" in seen.text


def test_the_page_loads_nothing_from_elsewhere(report: dict) -> None:
    html = page(report, [{"title": "t", "images": [("real", sheet([encoded(Image.new("RGB", (8, 8)))]))]}])
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    elements = Page(html).elements
    links = [
        value
        for _, attributes in elements
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "action")
    ]
    assert len(links) == 1 and str(links[0]).startswith("data:image/png;base64,")
    (policy,) = [
        a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy and policy.startswith("default-src 'none';") and "script" not in policy


def test_the_page_shows_the_figures(report: dict) -> None:
    text = " ".join(Page(page(report, [])).text.split())
    for figure in (
        "not improved",
        "45.0%",
        "75.0%",
        "n = 0 – ERM",
        "4321 1234 (1300) own: same-attribute 3 1700 70.0% 71 of 91",
        "embed 12.3 1.5 7 2 90 80 6 4",
    ):
        assert figure in text
    assert text.count("ERM") >= 2


def test_the_page_says_what_became_of_the_images(report: dict) -> None:
    text = " ".join(Page(page(report, [])).text.split())
    assert "99 images = 88 used + 7 quarantined + 4 left out" in text
    assert f"Quarantined: empty 5, {EVIL} 2." in text and "Excluded" not in text
    assert "Severity 99.9 % (seed 3): 654 training images kept, 321 left out" in text and "0123456789abcdef" in text
    assert f"{QUOTES} a remark" in text
    report["data"] |= {"severity": None, "remarks": []}
    report["audit"]["warnings"] = []
    report["methods"] = report["methods"][1:]  # nothing to compare fairsynth with
    assert "Severity" not in page(report, []) and "<li>" not in page(report, [])


def test_the_page_shows_the_audit_beside_its_references(report: dict) -> None:
    text = " ".join(Page(page(report, [])).text.split())
    assert (
        f"{QUOTES}, {QUOTES} synthetic, all made 50.0%, 25.0%, 12.5% 50.0%, 25.0%, 12.5% – – – – – – – synthetic, accepted 1234 50.0%, 25.0%, 12.5% – 0.250 0.2500 0.25"
        in text
    )
    assert "real, held out 77 – – – – – – – – –" in text
    assert f"{QUOTES} 50.0% 50.0% 0.61 (0.60 – 0.62) –" in text
    assert "3 of 600 accepted images look like copies of one of 500 training images (of 900)" in text
    assert "96.0% of 300 planted copies (flipped 96.0%), and took 96.0% of 300 held-out" in text
    assert "50.0% of 90 40.0% – 60.0% 45.0% 0.41 0.42" in text
    assert "right about the label in 87.5% and about the attribute in –" in text


def test_copies_are_not_measured_without_a_passed_self_test(report: dict) -> None:
    report["audit"] = audit(QUOTES, passed=False)
    text = " ".join(Page(page(report, [])).text.split())
    assert "Privacy not measured" in text and "the detector of copies did not pass" in text
    assert "look like copies of one of" not in text
    report["audit"]["copies"]["self_test"] = {"passed": False, "why": "too few real images"}
    assert "too few real images." in " ".join(Page(page(report, [])).text.split())


def test_discovered_attributes_are_told_and_compared_with_the_true_ones(report: dict) -> None:
    assert "were discovered" not in page(report, [])
    report["discovered"] = {"kinds": 4, "agreement": None, "true_groups": []}
    text = " ".join(Page(page(report, [])).text.split())
    assert "Attributes were discovered" in text and "inside each label 4 clusters" in text
    assert "true attribute" not in text
    entry = {"label": EVIL, "n": 77, "adjusted_mutual_information": 0.456, "purity": 0.912, "kinds": {}}
    true_groups = [method_entry(method("erm", (9, 5, 3)))]
    report["discovered"] |= {"agreement": {"train": [entry], "test": [entry]}, "true_groups": true_groups}
    text = " ".join(Page(page(report, [])).text.split())
    assert f"{EVIL} train 77 0.46 91.2%" in text and f"{EVIL} test 77 0.46 91.2%" in text
    assert f"ERM 50.0% {EVIL}, q (10) 68.0%" in text


def test_a_report_without_synthetic_images_has_a_page(report: dict) -> None:
    report["groups"][0] |= {"synthetic": 0, "rejected": {}, "k": 0, "generator": "prompt"}
    report["audit"] |= {"groups": [], "clusters": [], "shortcuts": []}
    assert "There are no synthetic images to look at." in page(report, [])
    assert "none" in Page(page(report, [{"title": "t", "images": [("accepted", sheet([]))]}])).text


@pytest.mark.parametrize(
    ("n", "size"), [(1, (12 * 64, 64)), (12, (12 * 64, 64)), (13, (12 * 64, 128)), (30, (12 * 64, 192))]
)
def test_a_sheet_is_a_png_with_every_image_in_its_place(n: int, size: tuple[int, int]) -> None:
    colours = [(7 * i, 255 - 7 * i, 100) for i in range(n)]
    uri = sheet([encoded(Image.new("RGB", (20, 20), colour)) for colour in colours])
    grid = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)))
    assert grid.format == "PNG" and grid.size == size
    pixels = np.asarray(grid.convert("RGB"))
    assert [tuple(pixels[i // 12 * 64 + 30, i % 12 * 64 + 30].tolist()) for i in range(n)] == colours
    if n % 12:
        assert pixels[-30, n % 12 * 64 + 30].tolist() == [255, 255, 255]


def test_odd_images_have_a_place_in_a_sheet_too() -> None:
    # One colour, tiny, very long: a run's own rules may allow them, and rejected images are shown as they are.
    odd = [Image.new("RGB", size) for size in ((20, 20), (2, 2), (400, 9))]
    assert sheet([encoded(image) for image in odd]).startswith("data:image/png;base64,")


def test_no_files_are_no_sheet() -> None:
    assert sheet([]) == ""

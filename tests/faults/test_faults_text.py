"""Fault case 26 of CASES.md: hostile text as label, attribute, file name or remark is text in the page, the terminal and the CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fairsynth.commands.inspect.text import lines
from fairsynth.exports.formats import inert
from fairsynth.groups import Group
from fairsynth.stages.report.page import page, table_lines
from tests.support.audits import MADE, audit, synthesis
from tests.support.datasets import crops, encoded, tiny_folder_dataset
from tests.support.ingesting import Page, inspected

SIZES = {"train": (10, 6, 6, 10), "val": (4,) * 4, "test": (4,) * 4}
HOSTILE = ["<img src=x onerror=alert(1)>", "</td><script>alert(1)</script>", "\x1b]0;owned\x07\x1b[2J", "=cmd()|'/c calc'!A1",
           "{{ 7*7 }}{% raw %}", "\u202egnp.exe", '"><svg onload=x>', "a\r\nfairsynth: done"]  # fmt: skip


def report(text: str) -> dict[str, Any]:
    """A report in which every text from the data is this one."""
    figure = {"mean": 0.5, "ci95": [0.4, 0.6], "per_seed": [0.5]}
    group = {"label": text, "attribute": text}
    figures = ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior")
    figures += ("equalized_odds_difference", "ece")
    entry = group | {"n": 3, "accuracy": 0.5, "ci95": [0.1, 0.9]}
    method = {"name": "erm", "worst_group": group | {"n": 3}, "groups": [entry]}
    method |= dict.fromkeys(figures, figure)
    made = {"real": 1, "synthetic": 1, "generator": "own", "k": 1, "rejected": {text: 1}, "remark": text} | MADE
    agreement = {"label": text, "n": 3, "adjusted_mutual_information": 0.5, "purity": 0.5}
    return {
        "verdict": "inconclusive",
        "methods": [method],
        "groups": [group | made],
        "synthetic_images": {
            "used_as": None,
            "images": 1,
            "line": text,
            "not_made": [text],
            "would_help": [text],
        },
        "synthesis": synthesis(text),
        "settings": {},
        "audit": audit(text),
        "stages": [],
        "data": {
            "counts": dict.fromkeys(("input", "used", "quarantined", "excluded"), 1),
            "reasons": {"quarantined": {text: 1}},
            "severity": None,
            "remarks": [text],
        },
        "discovered": {"kinds": 2, "agreement": {text: [agreement]}, "true_groups": [method]},
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_case_26_hostile_text_stays_text_in_the_page_and_the_tables(text: str) -> None:
    seen = Page(page(report(text), [{"title": text, "images": [(text, "data:image/png;base64,AA==")]}]))
    clean = Page(page(report("qqqq"), [{"title": "qqqq", "images": [("qqqq", "data:image/png;base64,AA==")]}]))
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in clean.elements]
    assert not [key for _, attributes in seen.elements for key in attributes if key.startswith("on")]
    assert seen.text.count(text) == clean.text.count("qqqq") > 12
    assert all(line.isprintable() for line in table_lines(report(text)))
    assert str(Group(text, text)).isprintable() and Group(text, text).slug.replace("-", "").replace("_", "").isalnum()


def test_case_26_hostile_text_is_inert_in_the_text_of_inspect(tmp_path: Path) -> None:
    root = tmp_path / "data"
    tiny_folder_dataset(root, SIZES, labels=HOSTILE[1:3], attributes=HOSTILE[6:8])
    rows = [(f"{text.replace('/', '')}{i}.png", "train", HOSTILE[1], HOSTILE[6]) for i, text in enumerate(HOSTILE)]
    for number, (name, *_) in enumerate(rows):  # half of them are files, in pairs of copies; half are missing
        if number % 2:
            (root / name).write_bytes(encoded(crops()[number // 4]))
            (root / f"orphan {name}").write_bytes(encoded(crops()[200 + number]))
    with (root / "metadata.csv").open("a", newline="") as handle:
        csv.writer(handle).writerows(rows)
    found = inspected(root)
    text = list(lines(found))
    assert all(line.isprintable() for line in text)
    assert not any(line.startswith("fairsynth:") for line in text)
    assert found["orphans"] and found["copies"] and found["quarantine"]["files"] and found["problems"]
    assert {g["label"] for g in found["groups"]} == {*HOSTILE[1:3]}, "JSON has the text as it is"


@pytest.mark.parametrize("text", ["=cmd()", "+1+cmd()", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-"])
def test_case_26_formulas_are_inert_in_the_csv(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1", "+2.5", "cat", "a=b", "", 5, -0.5, None, "'=x"])
def test_case_26_what_is_no_formula_stays_as_it_is(value: object) -> None:
    assert inert(value) == value

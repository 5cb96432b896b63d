"""Fault case 26 of CASES.md: hostile text as label, attribute, file name or remark is text in the page, the terminal and the CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fairsynth.commands.inspect.text import lines
from fairsynth.escaping import legible, printable
from fairsynth.exports.formats import inert
from fairsynth.groups import Group
from fairsynth.stages.report.lines import table_lines
from fairsynth.stages.report.page import page
from fairsynth.stages.report.pictures.grids import Grid, Row
from fairsynth.stages.report.pictures.plots import Curve
from fairsynth.stages.report.pictures.sheets import Sheet
from fairsynth.stages.report.pictures.shown import Shown
from tests.support.datasets import crops, encoded, tiny_folder_dataset
from tests.support.ingesting import Page, inspected
from tests.support.report.texts import report_of

SIZES = {"train": (10, 6, 6, 10), "val": (4,) * 4, "test": (4,) * 4}
HOSTILE = ["<img src=x onerror=alert(1)>", "</td><script>alert(1)</script>", "\x1b]0;owned\x07\x1b[2J", "=cmd()|'/c calc'!A1",
           "{{ 7*7 }}{% raw %}", "\u202egnp.exe", '"><svg onload=x>', "a\r\nfairsynth: done"]  # fmt: skip


def seen_in_page(text: str) -> Page:
    """The page of a report in which every text from the data is this one."""
    nothing, sheet = Sheet(text, "", 0, 0), Sheet(text, "data:image/webp;base64,AA==", 1, 1, 1, 1)
    grid = Grid(Group(text, text), Row(text, sheet, nothing, [sheet]), [Row(text, sheet, sheet, [])])
    # JSON writes text in a way of its own.
    report = report_of(text, text) | {"config": {}}
    for method in report["methods"]:
        for named in (*method["groups"], method["worst_group"]):
            named.update(label=text, attribute=text)
    return Page(page(report, Shown(grids=[grid], curves=[Curve(text, [], [])])))


@pytest.mark.parametrize("text", HOSTILE)
def test_case_26_hostile_text_stays_text_in_the_page_and_the_tables(text: str) -> None:
    seen, clean = seen_in_page(text), seen_in_page("qqqq")
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in clean.elements]
    assert not [key for _, attributes in seen.elements for key in attributes if key.startswith("on")]
    # Nothing in it steers a terminal, and characters that turn text around are shown as such.
    assert all(c.isprintable() or c == "\n" for c in seen.text)
    assert (
        sum(seen.text.count(form) for form in {text, printable(text), legible(text)}) == clean.text.count("qqqq") > 30
    )
    assert all(line.isprintable() for line in table_lines(report_of(text, text)))
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


@pytest.mark.parametrize(
    "text", ["=cmd()", "+1+cmd()", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "\n=1", "＝1", "＠x", " =1", "'=x", "''-x"]
)
def test_case_26_formulas_are_inert_in_the_csv(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1", "+2.5", "cat", "a=b", "", 5, -0.5, None, "'x", "it's"])
def test_case_26_what_is_no_formula_stays_as_it_is(value: object) -> None:
    assert inert(value) == value

"""The texts on the page of messages are those of the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairsynth import errors
from tests.support.docs.messages import messages, shown
from tests.support.docs.pages import ROOT, anchors, read_pages, tables

PAGE = read_pages()["docs/troubleshooting.md"]
QUOTES = [row[0].strip("`") for table in tables(PAGE) for row in table if row[0].startswith("`")]
QUOTES += re.findall(r"^`([^`]+)`: ", PAGE, re.MULTILINE)
# Of the libraries that read options and check settings.
THEIRS = {"Input should be …"}


@pytest.fixture(scope="module")
def source() -> set[str]:
    return messages(ROOT / "fairsynth")


def found(quote: str, source: set[str]) -> bool:
    """Whether one text of the source has it, whatever values it leaves out at its ends."""
    text = shown(quote).strip("… ")
    return any(text in one for one in source)


@pytest.mark.parametrize("quote", [quote for quote in QUOTES if quote not in THEIRS])
def test_a_text_is_in_the_source(quote: str, source: set[str]) -> None:
    assert found(quote, source)


def test_texts_long_enough_to_be_searched_for_and_none_twice() -> None:
    assert len(QUOTES) >= 40 and len(set(QUOTES)) == len(QUOTES)


def test_every_exit_code_has_its_row() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    rows = {row[0]: row[1] for row in tables(PAGE)[0][2:]}
    assert rows.keys() == {str(kind.exit_code) for kind in kinds if issubclass(kind, errors.FairsynthError)} | {"130"}
    assert {link for row in rows.values() for link in re.findall(r"\(#(.+?)\)", row)} <= anchors(PAGE)


def test_a_text_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '"""no message"""\nraise ValueError(\n    f"cannot read {name!r}{more}: {why}; "\n    "try again"\n)\n', "utf-8"
    )
    known = messages(tmp_path)
    assert known == {"cannot read …: …; try again"}
    assert found("cannot read …: …; try", known) and found("…; try again", known)
    assert not found("cannot read …; try again", known) and not found("no message", known)

"""Columns by their names."""

from __future__ import annotations

import pytest

from fairsynth.config.values import spelled
from fairsynth.data.tables.columns import places, present, value_of
from fairsynth.errors import DataError


def test_the_name_itself_goes_before_other_spellings() -> None:
    assert places("t", ["Label", "label", "LABEL "], ["label"]) == {"label": 1}
    assert places("t", ["a", " File-Name"], ["file_name", "a"]) == {"file_name": 1, "a": 0}


@pytest.mark.parametrize(("found", "message"), [
    (["Label", "label "], "no column 'label', but 'Label' and 'label ', which differ by spelling alone; keep one"),
    (["label", "label"], "the column 'label' 2 times; keep one"),
    (["labels", "x"], r"no column 'label' \(did you mean 'labels'\?\); it has: labels, x; needed: label"),
    ([], "it has: none"),
    ([f"column {i}" for i in range(100)], "column 29 and 70 more"),
])  # fmt: skip
def test_what_is_wrong_is_named(found: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        places("t", found, ["label"])


def test_rows_without_a_header() -> None:
    assert value_of({"Label": "x", "n": 0}, "label") == "x" and value_of({"n": 0}, "n") == 0
    assert value_of({"a": 1, "A": 2}, "A ") is None is value_of({}, "a")
    assert present(["Split", "x"], ["split", "y"]) == ["split"]


def test_names_in_one_spelling() -> None:
    assert len({spelled(name) for name in ("file_name", "File Name", "\ufefffile-name ", "FILE  NAME")}) == 1
    assert spelled("filename") != spelled("file_name")

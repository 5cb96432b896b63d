"""Values that are nearly the same."""

from __future__ import annotations

import pytest

from fairsynth.config.values import plain_value
from fairsynth.data.metadata import Entry, Metadata
from fairsynth.data.rules.values import with_spellings_compared


def labels(*values: str, as_attribute: bool = False) -> Metadata:
    """A dataset with these labels, or these attributes."""
    pairs = [("x", value) if as_attribute else (value, "p") for value in values]
    return with_spellings_compared(Metadata([Entry(f"{i}.jpg", "train", *pair) for i, pair in enumerate(pairs)]))


@pytest.mark.parametrize(("text", "value"), [
    ("1.0", "1"), ("-1.00", "-1"), ("0.", "0"), ("-0.0", "0"), ("1.5", "1.5"), ("01.0", "01.0"), ("v1.0", "v1.0"), ("1e3", "1e3"), (".0", ".0"),
    ("10", "10"), ("1.0 ", "1.0 "), ("cafe\u0301", "caf\u00e9"), ("\u212b", "\u00c5"), ("", ""), ("1" * 40 + ".0", "1" * 40 + ".0"),
])  # fmt: skip
def test_the_one_spelling_of_a_value(text: str, value: str) -> None:
    assert plain_value(text) == value == plain_value(value)


@pytest.mark.parametrize("values", [("1", "01"), ("1", "+1"), ("1.5", "1.50"), ("-1", " -1"), ("2", "\t2")])
def test_two_spellings_of_a_number_are_a_problem(values: tuple[str, str]) -> None:
    found = labels(*values)
    (problem,) = found.problems
    assert problem.startswith("label: ") and all(repr(value) in problem for value in values)
    assert found.remarks == []
    assert labels(*values, as_attribute=True).problems[0].startswith("attribute: ")


@pytest.mark.parametrize("values", [
    ("1", "2"), ("1/2", "0.5"), ("1", "one"), ("x", "y", ""), ("nan", "inf"), ("1e99999999999", "1"), ("1_0", "10"), ("1e2", "100"), ("1" * 5000, "2" * 5000), ("\u0661", "1"),
])  # fmt: skip
def test_other_values_are_no_problem(values: tuple[str, ...]) -> None:
    found = labels(*values)
    assert found.problems == [] and [entry.label for entry in found.entries] == list(values)


@pytest.mark.parametrize("other", ["Red", "red ", "r ed", "\uff52ed", "re\u200bd", "\u00a0red"])
def test_values_that_look_alike_are_told_and_stay_apart(other: str) -> None:
    found = labels("red", other, "blue")
    (remark,) = found.remarks
    assert "label: " in remark and repr(other) in remark and "'blue'" not in remark and found.problems == []
    assert [entry.label for entry in found.entries] == ["red", other, "blue"]

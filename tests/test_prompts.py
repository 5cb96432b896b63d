"""Prompts: values go in as text and are never read as templates."""

from __future__ import annotations

import pytest

from fairsynth.config import DataConfig
from fairsynth.groups import Group
from fairsynth.prompts import fill

TEMPLATE = "a photo of a {token} {label}, {attribute}"
PLAIN = DataConfig()


def test_values_take_their_places() -> None:
    assert fill(TEMPLATE, PLAIN, Group("bird", "on water"), "sks") == "a photo of a sks bird, on water"
    assert fill("{attribute} {label} {label}", PLAIN, Group("x", "y")) == "y x x"


def test_without_a_token_no_gap_is_left() -> None:
    assert fill(TEMPLATE, PLAIN, Group("bird", "on water")) == "a photo of a bird, on water"


def test_words_replace_values_and_values_without_a_word_stand_for_themselves() -> None:
    data = DataConfig(label_names={"1": "waterbird"}, attribute_names={"1": "in a forest"})
    assert fill(TEMPLATE, data, Group("1", "1"), "sks") == "a photo of a sks waterbird, in a forest"
    assert fill(TEMPLATE, data, Group("0", "1"), "sks") == "a photo of a sks 0, in a forest"


@pytest.mark.parametrize(
    "text",
    [
        "{attribute}",
        "{token}",
        "{label}",
        "{",
        "}}",
        "{0}",
        "{label.__class__}",
        "{label!r}",
        "%s",
        r"\1",
        r"\g<0>",
        "$label",
        "{{label}}",
    ],
)
def test_hostile_text_stays_text(text: str) -> None:
    assert fill("a {label} b {attribute} c {token}", PLAIN, Group(text, "water"), "sks") == f"a {text} b water c sks"
    assert fill("a {label} b {attribute} c", PLAIN, Group("bird", text)) == f"a bird b {text} c"
    data = DataConfig(label_names={"0": text})
    assert fill("{label} {attribute}", data, Group("0", "x")) == f"{text} x"


@pytest.mark.parametrize("template", ["{other} {label}", "{{label}}", "{label:>10}", "{Label} {", "%(label)s"])
def test_only_the_three_names_are_places(template: str) -> None:
    assert fill(template, PLAIN, Group("bird", "x")) == template.replace("{label}", "bird")

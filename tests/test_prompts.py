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


def test_a_combined_attribute_takes_the_words_of_its_parts() -> None:
    names = {"Male=1": "male", "Young=1": "young", "Young=0": "old"}
    data = DataConfig(attribute_column=("Male", "Young"), attribute_names=names)
    assert fill(TEMPLATE, data, Group("face", "Male=1, Young=0"), "sks") == "a photo of a sks face, male, old"
    assert fill(TEMPLATE, data, Group("face", "Male=0, Young=1")) == "a photo of a face, Male=0, young"
    whole = DataConfig(attribute_column=("Male", "Young"), attribute_names=names | {"Male=1, Young=1": "boyish"})
    assert fill(TEMPLATE, whole, Group("face", "Male=1, Young=1")) == "a photo of a face, boyish"


def test_a_single_attribute_with_a_comma_is_not_taken_apart() -> None:
    data = DataConfig(attribute_column="place", attribute_names={"sea": "by the sea"})
    assert fill(TEMPLATE, data, Group("bird", "sky, sea")) == "a photo of a bird, sky, sea"


def test_a_discovered_attribute_leaves_no_trace_unless_it_has_a_word() -> None:
    data = DataConfig(attribute="discover")
    assert fill(TEMPLATE, data, Group("bird", "kind-1"), "sks") == "a photo of a sks bird"
    assert fill("a {label} of {attribute} look", data, Group("bird", "kind-1")) == "a bird of look"
    named = DataConfig(attribute="discover", attribute_names={"kind-2": "at sea"})
    assert fill(TEMPLATE, named, Group("bird", "kind-2")) == "a photo of a bird, at sea"
    assert fill(TEMPLATE, named, Group("bird", "kind-1")) == "a photo of a bird"

"""What tells the label by itself: the route by which an image was made, and style."""

from __future__ import annotations

from typing import Any

import pytest

from fairsynth.groups import Group
from fairsynth.stages.audit import figures as stage
from tests.support.figures import A, B, C, drawn, images, world


def from_generators(*made: tuple[str, str, int], attribute: str = "building") -> dict[str, Any]:
    """What is said of an attribute whose images come so: (label, route, how many), each image by an adapter of its own."""
    groups = [Group(label, attribute) for label, _, n in made for _ in range(n)]
    routes = [route for _, route, n in made for _ in range(n)]
    rows = [{"adapter": f"adapter {i}", "route": route} for i, route in enumerate(routes)]
    vectors = drawn(len(rows), 0)
    (found,) = stage.shortcuts(images(vectors, groups), rows, images(drawn(4, 1), [A, B, A, B]), 0)
    assert found["attribute"] == attribute
    return found


def test_how_far_the_generator_gives_the_label_away_by_hand() -> None:
    one = from_generators(("low", "prompt", 5), ("high", "prompt", 3))
    assert (one["label_from_generator"], one["chance"]) == (0.5, 0.5)
    assert from_generators(("low", "composed", 5), ("high", "same-label", 3))["label_from_generator"] == 1
    assert from_generators(("low", "own", 5), ("high", "prompt", 3))["label_from_generator"] == 1
    # Prompts: 3/4 of low against 1/2 of high; composed: 1/4 against 1/2. Said low for the former, high for the latter.
    mixed = from_generators(
        ("low", "prompt", 3), ("low", "composed", 1), ("high", "prompt", 2), ("high", "composed", 2)
    )
    assert mixed["label_from_generator"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    # A large label does not make it look better: nine in ten of all images are low.
    large = from_generators(("low", "own", 900), ("high", "own", 100))
    assert large["label_from_generator"] == 0.5
    three = from_generators(("low", "own", 4), ("high", "own", 4), ("middle", "prompt", 4))
    assert (three["label_from_generator"], three["chance"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    alone = from_generators(("low", "own", 4))
    assert (alone["label_from_generator"], alone["chance"]) == (1, 1)
    assert one["style"] is None, "of so few images nothing is said"


def test_adapters_of_the_attributes_own_groups_are_one_generator() -> None:
    assert from_generators(("low", "own", 5), ("high", "same-attribute", 3))["label_from_generator"] == 0.5
    # Those of the label's groups have learnt other backgrounds: they are another generator.
    for other in ("same-label", "same-label-late", "composed", "prompt"):
        assert from_generators(("low", "own", 5), ("high", other, 3))["label_from_generator"] == 1
        assert from_generators(("low", "same-attribute", 5), ("high", other, 3))["label_from_generator"] == 1
    # Of low all are by it; of high half are: said low for it, high for prompts.
    half = from_generators(("low", "own", 2), ("low", "same-attribute", 2), ("high", "own", 2), ("high", "prompt", 2))
    assert half["label_from_generator"] == pytest.approx((1 + 1 / 2) / 2)


def test_each_attribute_is_looked_at_alone() -> None:
    groups = [A, B, C, Group("high", "flower")] * 3
    rows = [{"adapter": "x", "route": route} for route in ("own", "own", "own", "prompt")] * 3
    found = stage.shortcuts(images(drawn(12, 0), groups), rows, images(drawn(4, 1), groups[:4]), 0)
    assert [(f["attribute"], f["label_from_generator"]) for f in found] == [("building", 0.5), ("flower", 1.0)]


def test_style_that_tells_the_label_is_seen() -> None:
    rows = [{"adapter": None, "route": "prompt"}] * 200
    for shift, tells in ((0.0, False), (1.0, True)):
        synthetic, real = world(shift)
        (found,) = stage.shortcuts(synthetic, rows, real, 0)
        style = found["style"]
        assert found["label_from_generator"] == 0.5
        assert (style["synthetic"]["low"] > 0.7) == tells
        assert style["real"]["low"] < 0.5 < style["real"]["high"]
        if tells:
            assert (style["label"], style["more_real"]) == ("low", True)

"""The routes by which each group can be made: who can lend to it, and what its prompts say."""

from __future__ import annotations

from typing import Any

import pytest

from fairsynth.config import ROUTES, DataConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.stages.finetune.output import SHARED, Adapter
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.routes import negative, possible_routes
from fairsynth.stages.synthesize.routing import Route, decide
from tests.support.synthesize.routes import ADAPTERS, CONFIG, HB, HF, LB, LF, PLAIN, TEMPLATE, possible

COUNTS = {LB: 492, LF: 1, HB: 1, HF: 506}


def test_a_group_with_adapters_is_made_by_them_with_their_own_prompts() -> None:
    found = possible_routes(LB, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE)
    assert found["own"] == [
        Source("own", "low--building--0", 0, "a photo of a sks low, building", 192, "blur", 6.0),
        Source("own", "low--building--1", 1, "a photo of a ohwx low, building", 300, "blur", 6.0),
    ]
    assert list(found) == ["own", "prompt"]  # nobody else has adapters of buildings, or of low


def test_the_routes_of_a_rare_group_by_hand() -> None:
    prompt = "a photo of a low, flower"
    half, late = {"adapter_scale": 0.5}, {"adapter_from": 0.5}

    def by_label(route: str, **how: Any) -> list[Source]:
        return [
            Source(route, f"low--building--{i}", i, prompt, n, "blur, building", 3.0, **how)
            for i, n in ((0, 192), (1, 300))
        ]

    assert possible_routes(LF, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE) == {
        "same-attribute": [
            Source("same-attribute", "high--flower--0", 0, "a photo of a sks low, flower", 506, "blur, high", 3.0)
        ],
        "same-label": by_label("same-label"),
        "same-label-half": by_label("same-label-half", **half),
        "same-label-late": by_label("same-label-late", **late),
        "composed": [
            Source("composed", "high--flower--0", 0, prompt, 506, "blur", 3.0, 0.5, "low--building--1"),
        ],
        "prompt": [Source("prompt", None, 0, prompt, 1, "blur", 6.0)],
    }


def test_the_other_rare_group_borrows_the_other_way_round() -> None:
    found = possible_routes(HB, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE)
    assert [(s.adapter, s.negative_prompt, s.prompt) for s in found["same-attribute"]] == [
        ("low--building--0", "blur, low", "a photo of a sks high, building"),
        ("low--building--1", "blur, low", "a photo of a ohwx high, building"),
    ]
    assert [(s.adapter, s.negative_prompt) for s in found["same-label"]] == [("high--flower--0", "blur, flower")]
    assert [(s.adapter, s.second_adapter) for s in found["composed"]] == [
        ("low--building--0", "high--flower--0"),
        ("low--building--1", "high--flower--0"),
    ]


def test_the_adapter_that_all_share_makes_any_group_by_the_prompt_that_it_learnt() -> None:
    for group, words in ((LF, "low, flower"), (LB, "low, building")):
        (source,) = possible_routes(group, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE, 2.5)["shared"]
        assert source == Source("shared", SHARED, 0, f"a photo of a {words}", 1, "blur", 2.5)


def test_without_adapters_there_is_the_prompt_alone() -> None:
    assert possible_routes(LF, (), COUNTS, CONFIG, PLAIN, TEMPLATE) == {
        "prompt": [Source("prompt", None, 0, "a photo of a low, flower", 1, "blur", 6.0)]
    }


def test_borrowed_adapters_take_the_common_guidance_if_they_have_none_of_their_own() -> None:
    config = SynthesizeConfig(guidance=6.0)
    found = possible_routes(LF, ADAPTERS, COUNTS, config, PLAIN, TEMPLATE)
    assert {source.guidance for sources in found.values() for source in sources} == {6.0}
    assert found["same-attribute"][0].negative_prompt == "high" and found["composed"][0].negative_prompt == ""


def test_words_of_labels_and_attributes_are_spoken_and_not_their_values() -> None:
    data = DataConfig(
        label_names={"0": "landbird", "1": "waterbird"}, attribute_names={"0": "on land", "1": "on water"}
    )
    config = SynthesizeConfig(prompt="{attribute}: a {label}")
    adapters = [Adapter("1--1--0", Group("1", "1"), 0, "sks", 9)]
    counts = {Group("1", "1"): 9}
    by_attribute = possible_routes(Group("0", "1"), adapters, counts, config, data, TEMPLATE)["same-attribute"][0]
    assert (by_attribute.prompt, by_attribute.negative_prompt) == ("a photo of a landbird, on water", "waterbird")
    by_label = possible_routes(Group("1", "0"), adapters, counts, config, data, TEMPLATE)["same-label"][0]
    assert (by_label.prompt, by_label.negative_prompt) == ("on land: a waterbird", "on water")


def test_the_largest_group_lends_and_of_equal_ones_the_first() -> None:
    groups = [Group(label, "flower") for label in "abcd"]
    adapters = [Adapter(group.slug, group, 0, "", 5) for group in reversed(groups)]

    def lender(**counts: int) -> str | None:
        by_group = {group: counts[group.label] for group in groups}
        return possible_routes(groups[0], adapters, by_group, CONFIG, PLAIN, TEMPLATE)["same-attribute"][0].adapter

    assert lender(a=99, b=5, c=7, d=6) == "c--flower"  # not to itself
    assert lender(a=1, b=5, c=7, d=7) == "c--flower"
    # The largest of all has no adapter: who has some lends.
    counts = {group: 5 for group in groups} | {Group("e", "flower"): 100}
    assert (
        possible_routes(groups[0], adapters, counts, CONFIG, PLAIN, TEMPLATE)["same-attribute"][0].adapter
        == "b--flower"
    )


def test_a_group_that_has_adapters_can_borrow_besides() -> None:
    more = (*ADAPTERS, Adapter("low--flower--0", LF, 0, "a photo of a sks low, flower", 1))
    found = possible_routes(LF, more, COUNTS, CONFIG, PLAIN, TEMPLATE, 2.5)
    assert list(found) == list(ROUTES)
    assert [source.adapter for source in found["own"]] == ["low--flower--0"]
    assert [source.adapter for source in found["same-attribute"]] == ["high--flower--0"]
    assert {source.route for sources in found.values() for source in sources} == set(ROUTES)
    assert all(source.route == route for route, sources in found.items() for source in sources)


def test_the_second_adapter_is_the_one_with_most_images_and_of_equal_ones_the_first_cluster() -> None:
    twins = [a._replace(images=300) if a.group == LB else a for a in ADAPTERS]
    (source,) = possible_routes(LF, twins[::-1], COUNTS, CONFIG, PLAIN, TEMPLATE)["composed"]
    assert source.second_adapter == "low--building--0"


COMBINED = DataConfig(attribute_column=("Male", "Young"), attribute_names={"Male=1": "man", "Young=0": "old"})


@pytest.mark.parametrize(
    ("group", "lender", "data", "words"),
    [
        (HF, LF, PLAIN, "low"),
        (LB, LF, PLAIN, "flower"),
        # Combined attributes: what both have in common is not spoken against.
        (Group("x", "Male=0, Young=0"), Group("x", "Male=1, Young=0"), COMBINED, "man"),
        (Group("x", "Male=1, Young=1"), Group("x", "Male=1, Young=0"), COMBINED, "old"),
        (Group("x", "Male=0, Young=1"), Group("x", "Male=1, Young=0"), COMBINED, "man, old"),
        (Group("x", "Male=1, Young=0"), Group("x", "Male=0, Young=0"), COMBINED, "Male=0"),
        (Group("y", "Male=1, Young=0"), Group("x", "Male=1, Young=0"), COMBINED, "x"),
        # A word for the whole.
        (
            Group("x", "Male=1, Young=1"),
            Group("x", "Male=1, Young=0"),
            DataConfig(attribute_column=("Male", "Young"), attribute_names={"Male=1, Young=0": "old man"}),
            "old man",
        ),
        # A discovered attribute has no word, unless somebody gave it one.
        (Group("x", "kind-1"), Group("x", "kind-2"), DataConfig(attribute="discover"), ""),
        (Group("y", "kind-2"), Group("x", "kind-2"), DataConfig(attribute="discover"), "x"),
        (
            Group("x", "kind-1"),
            Group("x", "kind-2"),
            DataConfig(attribute="discover", attribute_names={"kind-2": "outdoors"}),
            "outdoors",
        ),
        # Two values with one word: nothing to speak against.
        (Group("6", "a"), Group("9", "a"), DataConfig(label_names={"6": "digit", "9": "digit"}), ""),
        # Values are text, even if they look like templates.
        (Group("x", "a"), Group("x", "{label}"), PLAIN, "{label}"),
        (Group("{attribute}", "a"), Group(r"\g<0>", "a"), PLAIN, r"\g<0>"),
    ],
)
def test_the_negative_prompt_names_what_is_the_lenders_alone(
    group: Group, lender: Group, data: DataConfig, words: str
) -> None:
    assert negative("", group, lender, data) == words
    assert negative("blur, noise", group, lender, data) == (f"blur, noise, {words}" if words else "blur, noise")


def test_a_discovered_attribute_leaves_its_place_in_the_prompt_empty() -> None:
    adapters = [Adapter("x--kind-2--0", Group("x", "kind-2"), 0, "", 9)]
    data = DataConfig(attribute="discover")
    found = possible_routes(Group("x", "kind-1"), adapters, {Group("x", "kind-2"): 9}, CONFIG, data, TEMPLATE)
    assert {(s.prompt, s.negative_prompt) for sources in found.values() for s in sources} == {
        ("a photo of a x", "blur")
    }


def test_a_routing_that_is_not_possible_says_so() -> None:
    routes = decide(possible(), {}, SynthesizeConfig(routing="own"))
    assert routes[LB] == Route("own", "synthesize.routing")
    assert routes[LF] == Route("prompt", "synthesize.routing; own is not possible")


@pytest.mark.parametrize(("route", "origin"), [("own", "own"), ("prompt", "prompt"), ("composed", "borrowed")])
def test_the_origin_of_a_route_is_in_the_words_of_the_design(route: str, origin: str) -> None:
    assert Route(route, "").origin == origin

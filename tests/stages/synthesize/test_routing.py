"""How each group is made: who can lend to it, what its prompts say, and which way the rule takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import ROUTES, DataConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.routing import (
    PREFERENCES,
    Adapter,
    Route,
    Trial,
    clearly_less,
    decide,
    negative,
    overrides,
    to_try,
    ways,
)

LB, LF, HB, HF = (Group(label, attribute) for label in ("low", "high") for attribute in ("building", "flower"))
COUNTS = {LB: 492, LF: 1, HB: 1, HF: 506}
ADAPTERS = (
    Adapter("low--building--0", LB, 0, "a photo of a sks low, building", 192, "sks"),
    Adapter("low--building--1", LB, 1, "a photo of a ohwx low, building", 300, "ohwx"),
    Adapter("high--flower--0", HF, 0, "a photo of a sks high, flower", 506, "sks"),
)
CONFIG = SynthesizeConfig(negative_prompt="blur", guidance=6.0, borrow_guidance=3.0)
PLAIN, TEMPLATE = DataConfig(), "a photo of a {token} {label}, {attribute}"


def possible(adapters: tuple[Adapter, ...] = ADAPTERS, groups: tuple[Group, ...] = (LB, LF, HB, HF)) -> Any:
    """The names of the ways that there are for each group."""
    return {group: list(ways(group, adapters, dict.fromkeys(groups, 1), CONFIG, PLAIN, TEMPLATE)) for group in groups}


def test_a_group_with_adapters_is_made_by_them_with_their_own_prompts() -> None:
    found = ways(LB, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE)
    assert found["own"] == [
        Source("own", "low--building--0", 0, "a photo of a sks low, building", 192, "blur", 6.0),
        Source("own", "low--building--1", 1, "a photo of a ohwx low, building", 300, "blur", 6.0),
    ]
    assert list(found) == ["own", "prompt"]  # nobody else has adapters of buildings, or of low


def test_the_ways_of_a_rare_group_by_hand() -> None:
    prompt = "a photo of a low, flower"
    half, late = {"adapter_scale": 0.5}, {"adapter_from": 0.5}

    def by_label(way: str, **how: Any) -> list[Source]:
        return [
            Source(way, f"low--building--{i}", i, prompt, n, "blur, building", 3.0, **how)
            for i, n in ((0, 192), (1, 300))
        ]

    assert ways(LF, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE) == {
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
    found = ways(HB, ADAPTERS, COUNTS, CONFIG, PLAIN, TEMPLATE)
    assert [(s.adapter, s.negative_prompt, s.prompt) for s in found["same-attribute"]] == [
        ("low--building--0", "blur, low", "a photo of a sks high, building"),
        ("low--building--1", "blur, low", "a photo of a ohwx high, building"),
    ]
    assert [(s.adapter, s.negative_prompt) for s in found["same-label"]] == [("high--flower--0", "blur, flower")]
    assert [(s.adapter, s.second_adapter) for s in found["composed"]] == [
        ("low--building--0", "high--flower--0"),
        ("low--building--1", "high--flower--0"),
    ]


def test_without_adapters_there_is_the_prompt_alone() -> None:
    assert ways(LF, (), COUNTS, CONFIG, PLAIN, TEMPLATE) == {
        "prompt": [Source("prompt", None, 0, "a photo of a low, flower", 1, "blur", 6.0)]
    }


def test_borrowed_adapters_take_the_common_guidance_if_they_have_none_of_their_own() -> None:
    config = SynthesizeConfig(guidance=6.0)
    found = ways(LF, ADAPTERS, COUNTS, config, PLAIN, TEMPLATE)
    assert {source.guidance for way in found.values() for source in way} == {6.0}
    assert found["same-attribute"][0].negative_prompt == "high" and found["composed"][0].negative_prompt == ""


def test_words_of_labels_and_attributes_are_spoken_and_not_their_values() -> None:
    data = DataConfig(
        label_names={"0": "landbird", "1": "waterbird"}, attribute_names={"0": "on land", "1": "on water"}
    )
    config = SynthesizeConfig(prompt="{attribute}: a {label}")
    adapters = [Adapter("1--1--0", Group("1", "1"), 0, "sks", 9)]
    counts = {Group("1", "1"): 9}
    by_attribute = ways(Group("0", "1"), adapters, counts, config, data, TEMPLATE)["same-attribute"][0]
    assert (by_attribute.prompt, by_attribute.negative_prompt) == ("a photo of a landbird, on water", "waterbird")
    by_label = ways(Group("1", "0"), adapters, counts, config, data, TEMPLATE)["same-label"][0]
    assert (by_label.prompt, by_label.negative_prompt) == ("on land: a waterbird", "on water")


def test_the_largest_group_lends_and_of_equal_ones_the_first() -> None:
    groups = [Group(label, "flower") for label in "abcd"]
    adapters = [Adapter(group.slug, group, 0, "", 5) for group in reversed(groups)]

    def lender(**counts: int) -> str | None:
        by_group = {group: counts[group.label] for group in groups}
        return ways(groups[0], adapters, by_group, CONFIG, PLAIN, TEMPLATE)["same-attribute"][0].adapter

    assert lender(a=99, b=5, c=7, d=6) == "c--flower"  # not to itself
    assert lender(a=1, b=5, c=7, d=7) == "c--flower"
    # The largest of all has no adapter: who has some lends.
    counts = {group: 5 for group in groups} | {Group("e", "flower"): 100}
    assert ways(groups[0], adapters, counts, CONFIG, PLAIN, TEMPLATE)["same-attribute"][0].adapter == "b--flower"


def test_a_group_that_has_adapters_can_borrow_besides() -> None:
    more = (*ADAPTERS, Adapter("low--flower--0", LF, 0, "a photo of a sks low, flower", 1))
    found = ways(LF, more, COUNTS, CONFIG, PLAIN, TEMPLATE)
    assert list(found) == list(ROUTES)
    assert [source.adapter for source in found["own"]] == ["low--flower--0"]
    assert [source.adapter for source in found["same-attribute"]] == ["high--flower--0"]
    assert {source.route for way in found.values() for source in way} == set(ROUTES)
    assert all(source.route == way for way, sources in found.items() for source in sources)


def test_the_second_adapter_is_the_one_with_most_images_and_of_equal_ones_the_first_cluster() -> None:
    twins = [a._replace(images=300) if a.group == LB else a for a in ADAPTERS]
    (source,) = ways(LF, twins[::-1], COUNTS, CONFIG, PLAIN, TEMPLATE)["composed"]
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
    found = ways(Group("x", "kind-1"), adapters, {Group("x", "kind-2"): 9}, CONFIG, data, TEMPLATE)
    assert {(s.prompt, s.negative_prompt) for way in found.values() for s in way} == {("a photo of a x", "blur")}


# Trials of 100 images: 95 % intervals are about 0.1 wide on either side, so 30 apart is clear and 12 is not.
GOOD, FAIR, POOR = Trial(100, 90), Trial(100, 78), Trial(100, 40)


def trials(**agreement: Trial) -> dict[tuple[Group, str], Trial]:
    """``LF_own=GOOD`` stands for the trial of one way of one group."""
    names = {"LB": LB, "LF": LF, "HB": HB, "HF": HF}
    return {(names[name[:2]], name[3:].replace("_", "-")): trial for name, trial in agreement.items()}


def decided(found: dict[tuple[Group, str], Trial], there: Any = None, **config: Any) -> dict[Group, str]:
    """The way that was chosen for every group."""
    routes = decide(there or possible(), found, SynthesizeConfig(**config))
    return {group: route.way for group, route in routes.items()}


ALL_GOOD = trials(
    LB_own=GOOD, HF_own=GOOD, LF_same_attribute=GOOD, HB_same_attribute=GOOD,
    LB_prompt=GOOD, HF_prompt=GOOD, LF_prompt=GOOD, HB_prompt=GOOD,
)  # fmt: skip


def test_adapters_are_preferred_where_they_show_their_groups() -> None:
    assert decided(ALL_GOOD) == {LB: "own", HB: "same-attribute", LF: "same-attribute", HF: "own"}


def test_groups_of_an_attribute_are_made_alike() -> None:
    # The adapters of flowers make no low digits: all flowers are made by prompts, and buildings as they were.
    found = ALL_GOOD | trials(LF_same_attribute=POOR)
    assert decided(found) == {LB: "own", HB: "same-attribute", LF: "prompt", HF: "prompt"}
    # A majority group whose own adapter fails takes its attribute along.
    assert decided(ALL_GOOD | trials(LB_own=POOR)) == {LB: "prompt", HB: "prompt", LF: "same-attribute", HF: "own"}


def test_it_is_the_worst_group_that_counts() -> None:
    # Low flowers are poor by adapters, but high ones are as poor by prompts.
    found = ALL_GOOD | trials(LF_same_attribute=POOR, HF_prompt=POOR)
    assert decided(found)[LF] == "same-attribute" and decided(found)[HF] == "own"


def test_prompts_must_be_better_by_the_margin_and_beyond_chance() -> None:
    flowers = (LF, HF)

    def ways_of_flowers(by_adapter: Trial, **config: Any) -> set[str]:
        chosen = decided(ALL_GOOD | trials(LF_same_attribute=by_adapter), **config)
        return {chosen[group] for group in flowers}

    adapters, prompts = {"own", "same-attribute"}, {"prompt"}
    assert (
        ways_of_flowers(POOR, prompt_margin=0.49) == prompts and ways_of_flowers(POOR, prompt_margin=0.51) == adapters
    )
    # 12 of 100 apart: more than the margin of 0.1, but the intervals meet (0.69 - 0.85 and 0.83 - 0.94).
    assert ways_of_flowers(FAIR) == adapters
    # The same shares of ten times as many images are apart.
    ten = {key: Trial(1000, 900) for key in ALL_GOOD}
    assert decided(ten | trials(LF_same_attribute=Trial(1000, 780)))[LF] == "prompt"
    # Beyond chance, but not beyond the margin.
    assert decided(ten | trials(LF_same_attribute=Trial(1000, 780)), prompt_margin=0.15)[LF] == "same-attribute"


def test_clearly_less_by_hand() -> None:
    # Wilson's intervals: 12 of 24 gives 0.314 - 0.686, 20 of 24 gives 0.641 - 0.933, 23 of 24 gives 0.798 - 0.993.
    assert not clearly_less(Trial(24, 12), Trial(24, 20), 0.1)
    assert clearly_less(Trial(24, 12), Trial(24, 23), 0.1)
    assert not clearly_less(Trial(24, 23), Trial(24, 12), 0.1)
    assert not clearly_less(Trial(24, 12), Trial(24, 23), 0.46)  # 11 / 24 = 0.458
    assert clearly_less(Trial(24, 12), Trial(24, 23), 0.45)
    assert not clearly_less(Trial(0, 0), Trial(24, 24), 0.0) and not clearly_less(Trial(24, 0), Trial(0, 0), 0.0)


def test_an_agreement_is_the_share_of_right_images() -> None:
    assert Trial(8, 6).agreement == 0.75 and Trial(0, 0).agreement == 0.0


WITH_OWN = (*ADAPTERS, Adapter("low--flower--0", LF, 0, "sks low", 15))


def test_own_adapters_are_replaced_only_by_clearly_better_ones_of_the_same_attribute() -> None:
    there = possible(WITH_OWN)
    others = ALL_GOOD | {(HF, "same-attribute"): GOOD, (LB, "same-label"): GOOD}

    def way(own: Trial, lent: Trial) -> str:
        return decided(others | trials(LF_own=own, LF_same_attribute=lent, LF_prompt=POOR), there)[LF]

    assert way(GOOD, GOOD) == way(FAIR, GOOD) == way(GOOD, POOR) == way(POOR, POOR) == "own"
    assert way(POOR, GOOD) == "same-attribute"
    # Its own adapter fails and is not what counts: the flowers stay with their adapters, for these are good.
    everything = others | trials(LF_own=POOR, LF_same_attribute=GOOD)
    assert decided(everything, there)[HF] == "own"


def test_an_attribute_without_any_adapter_is_made_by_prompts() -> None:
    there = possible(tuple(adapter for adapter in ADAPTERS if adapter.group == LB))
    assert there[LF] == ["same-label", "same-label-half", "same-label-late", "prompt"] and there[HF] == ["prompt"]
    found = trials(LB_own=GOOD, HB_same_attribute=GOOD, LB_prompt=GOOD, HB_prompt=GOOD)
    routes = decide(there, found, SynthesizeConfig())
    assert [routes[group].way for group in (LB, HB, LF, HF)] == ["own", "same-attribute", "prompt", "prompt"]
    assert routes[LF].why == "no group with this attribute has an adapter"


def test_an_attribute_of_a_single_group_is_decided_by_that_group() -> None:
    there = {HF: ["own", "prompt"]}
    assert decided(trials(HF_own=GOOD, HF_prompt=GOOD), there) == {HF: "own"}
    assert decided(trials(HF_own=POOR, HF_prompt=GOOD), there) == {HF: "prompt"}


def test_the_reason_tells_the_figures_that_decided() -> None:
    found = ALL_GOOD | trials(LF_same_attribute=POOR, LB_own=FAIR)
    routes = decide(possible(), found, SynthesizeConfig())
    assert routes[HF].why == ("groups of an attribute are made alike; worst group 40% by adapters, 90% by prompts")
    assert routes[HB].why == (
        "groups of an attribute are made alike, by its adapters; worst group 78% by adapters, 90% by prompts"
    )


def test_a_trial_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        decided({key: trial for key, trial in ALL_GOOD.items() if key != (LF, "prompt")})


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        ("paper", {LB: "own", HF: "own", LF: "same-label", HB: "same-label"}),
        ("own", {LB: "own", HF: "own", LF: "prompt", HB: "prompt"}),
        ("same-attribute", {LB: "own", HF: "own", LF: "same-attribute", HB: "same-attribute"}),
        ("prompt", dict.fromkeys((LB, HF, LF, HB), "prompt")),
    ],
)
def test_other_routings_need_no_trials(routing: str, expected: dict[Group, str]) -> None:
    assert decided({}, routing=routing) == expected
    assert to_try(possible(), SynthesizeConfig(routing=routing, also_try=("composed",))) == []  # type: ignore[arg-type]
    # Where there are no adapters at all, everything is made by prompts.
    nothing = possible(())
    assert decided({}, nothing, routing=routing) == dict.fromkeys(nothing, "prompt")


def test_every_routing_but_auto_has_its_preferences() -> None:
    values = SynthesizeConfig.model_fields["routing"].annotation.__args__  # type: ignore[union-attr]
    assert {*PREFERENCES, "auto"} == set(values)


def test_a_routing_that_is_not_possible_says_so() -> None:
    routes = decide(possible(), {}, SynthesizeConfig(routing="own"))
    assert routes[LB] == Route("own", "synthesize.routing")
    assert routes[LF] == Route("prompt", "synthesize.routing; own is not possible")


def test_single_groups_can_be_routed_otherwise() -> None:
    routes = {"low/flower": "composed", "high/flower": "prompt"}
    assert decided(ALL_GOOD, routes=routes) == {LB: "own", HB: "same-attribute", LF: "composed", HF: "prompt"}
    assert decided({}, routing="paper", routes=routes) == {LB: "own", HB: "same-label", LF: "composed", HF: "prompt"}
    assert decide(possible(), ALL_GOOD, SynthesizeConfig(routes=routes))[LF].why == "synthesize.routes says so"


def test_routes_of_unknown_groups_and_impossible_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="names 'low/sea', but the groups are: high/building, high/flower, low/build"):
        overrides(SynthesizeConfig(routes={"low/sea": "prompt"}), possible())
    with pytest.raises(
        ValueError, match="wants 'own' for 'low/flower', but there is no adapter for that; possible: sa"
    ):
        decided(ALL_GOOD, routes={"low/flower": "own"})


def test_a_route_that_could_be_of_two_groups_is_refused() -> None:
    there = dict.fromkeys((Group("a/b", "c"), Group("a", "b/c"), Group("a/b", "d")), ("prompt",))
    with pytest.raises(ValueError, match="names 'a/b/c', which are 2 groups"):
        overrides(SynthesizeConfig(routes={"a/b/c": "prompt"}), there)
    assert overrides(SynthesizeConfig(routes={"a/b/d": "prompt"}), there) == {Group("a/b", "d"): "prompt"}


def test_what_the_rule_compares_is_tried_and_what_the_config_names_besides() -> None:
    compared = [
        (HB, "same-attribute"), (HB, "prompt"), (HF, "own"), (HF, "prompt"),
        (LB, "own"), (LB, "prompt"), (LF, "same-attribute"), (LF, "prompt"),
    ]  # fmt: skip
    assert to_try(possible(), SynthesizeConfig()) == compared
    found = to_try(possible(), SynthesizeConfig(also_try=("composed", "same-label-late")))
    assert sorted(set(found) - set(compared)) == [
        (HB, "composed"), (HB, "same-label-late"), (LF, "composed"), (LF, "same-label-late"),
    ]  # fmt: skip
    assert len(found) == 12


def test_where_an_attribute_has_no_adapter_nothing_is_tried() -> None:
    buildings = possible(ADAPTERS[:2])
    assert "same-label" in buildings[LF] and "own" not in buildings[LF], "low flowers could borrow from low buildings"
    compared = [(HB, "same-attribute"), (HB, "prompt"), (LB, "own"), (LB, "prompt")]
    assert to_try(buildings, SynthesizeConfig()) == compared
    # Not even what the config names besides: the rule makes them by prompts all the same.
    assert to_try(buildings, SynthesizeConfig(also_try=("same-label", "composed"))) == compared
    routes = decide(buildings, dict.fromkeys(compared, Trial(24, 20)), SynthesizeConfig())
    assert {group: route.way for group, route in routes.items()} == {
        LB: "own", HB: "same-attribute", LF: "prompt", HF: "prompt",
    }  # fmt: skip
    nothing = possible(())
    assert to_try(nothing, SynthesizeConfig(also_try=("composed",))) == []
    assert {route.way for route in decide(nothing, {}, SynthesizeConfig()).values()} == {"prompt"}


@pytest.mark.parametrize(("way", "kind"), [("own", "own"), ("prompt", "prompt"), ("composed", "borrowed")])
def test_the_kind_of_a_way_is_in_the_words_of_the_design(way: str, kind: str) -> None:
    assert Route(way, "").kind == kind


@given(st.sets(st.sampled_from((LB, LF, HB, HF))), st.data())
@settings(deadline=None)
def test_whatever_the_trials_show_an_attribute_is_made_by_adapters_or_by_prompts(
    with_adapters: set[Group], data: st.DataObject
) -> None:
    there = possible(tuple(Adapter(group.slug, group, 0, "", 9) for group in sorted(with_adapters)))
    wanted = to_try(there, SynthesizeConfig())
    found = {key: Trial(24, data.draw(st.integers(0, 24))) for key in wanted}
    routes = decide(there, found, SynthesizeConfig())
    assert set(routes) == set(there) and all(route.way in there[group] for group, route in routes.items())
    for attribute in ("building", "flower"):
        mine = {routes[group].way for group in there if group.attribute == attribute}
        assert mine == {"prompt"} or "prompt" not in mine
        assert mine <= {"own", "same-attribute", "prompt"}
        if not any(group.attribute == attribute for group in with_adapters):
            assert mine == {"prompt"}
    # The order in which groups come decides nothing.
    assert decide(dict(reversed(there.items())), found, SynthesizeConfig()) == routes

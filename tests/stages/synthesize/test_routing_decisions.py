"""Which route is taken: by what the trials show, alike within an attribute, and as the config says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.stages.finetune.output import Adapter
from fairsynth.stages.synthesize.routing import PREFERENCES, decide, overrides, to_try
from fairsynth.stages.synthesize.trial_batches import TrialBatch, clearly_less
from tests.support.synthesize.routes import ADAPTERS, HB, HF, LB, LF, possible

# Trials of 100 images: 95 % intervals are about 0.1 wide on either side, so 30 apart is clear and 12 is not.
GOOD, FAIR, POOR = TrialBatch(100, 90), TrialBatch(100, 78), TrialBatch(100, 40)


def trials(**agreement: TrialBatch) -> dict[tuple[Group, str], TrialBatch]:
    """``LF_own=GOOD`` stands for the trial of one route of one group."""
    names = {"LB": LB, "LF": LF, "HB": HB, "HF": HF}
    return {(names[name[:2]], name[3:].replace("_", "-")): trial for name, trial in agreement.items()}


def decided(found: dict[tuple[Group, str], TrialBatch], there: Any = None, **config: Any) -> dict[Group, str]:
    """The route that was chosen for every group."""
    routes = decide(there or possible(), found, SynthesizeConfig(**config))
    return {group: route.name for group, route in routes.items()}


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

    def routes_of_flowers(by_adapter: TrialBatch, **config: Any) -> set[str]:
        chosen = decided(ALL_GOOD | trials(LF_same_attribute=by_adapter), **config)
        return {chosen[group] for group in flowers}

    adapters, prompts = {"own", "same-attribute"}, {"prompt"}
    assert (
        routes_of_flowers(POOR, prompt_margin=0.49) == prompts
        and routes_of_flowers(POOR, prompt_margin=0.51) == adapters
    )
    # 12 of 100 apart: more than the margin of 0.1, but the intervals meet (0.69 - 0.85 and 0.83 - 0.94).
    assert routes_of_flowers(FAIR) == adapters
    # The same shares of ten times as many images are apart.
    ten = {key: TrialBatch(1000, 900) for key in ALL_GOOD}
    assert decided(ten | trials(LF_same_attribute=TrialBatch(1000, 780)))[LF] == "prompt"
    # Beyond chance, but not beyond the margin.
    assert decided(ten | trials(LF_same_attribute=TrialBatch(1000, 780)), prompt_margin=0.15)[LF] == "same-attribute"


def test_clearly_less_by_hand() -> None:
    # Wilson's intervals: 12 of 24 gives 0.314 - 0.686, 20 of 24 gives 0.641 - 0.933, 23 of 24 gives 0.798 - 0.993.
    assert not clearly_less(TrialBatch(24, 12), TrialBatch(24, 20), 0.1)
    assert clearly_less(TrialBatch(24, 12), TrialBatch(24, 23), 0.1)
    assert not clearly_less(TrialBatch(24, 23), TrialBatch(24, 12), 0.1)
    assert not clearly_less(TrialBatch(24, 12), TrialBatch(24, 23), 0.46)  # 11 / 24 = 0.458
    assert clearly_less(TrialBatch(24, 12), TrialBatch(24, 23), 0.45)
    assert not clearly_less(TrialBatch(0, 0), TrialBatch(24, 24), 0.0) and not clearly_less(
        TrialBatch(24, 0), TrialBatch(0, 0), 0.0
    )


def test_an_agreement_is_the_share_of_right_images() -> None:
    assert TrialBatch(8, 6).agreement == 0.75 and TrialBatch(0, 0).agreement == 0.0


WITH_OWN = (*ADAPTERS, Adapter("low--flower--0", LF, 0, "sks low", 15))


def test_own_adapters_are_replaced_only_by_clearly_better_ones_of_the_same_attribute() -> None:
    there = possible(WITH_OWN)
    others = ALL_GOOD | {(HF, "same-attribute"): GOOD, (LB, "same-label"): GOOD}

    def route(own: TrialBatch, lent: TrialBatch) -> str:
        return decided(others | trials(LF_own=own, LF_same_attribute=lent, LF_prompt=POOR), there)[LF]

    assert route(GOOD, GOOD) == route(FAIR, GOOD) == route(GOOD, POOR) == route(POOR, POOR) == "own"
    assert route(POOR, GOOD) == "same-attribute"
    # Its own adapter fails and is not what counts: the flowers stay with their adapters, for these are good.
    everything = others | trials(LF_own=POOR, LF_same_attribute=GOOD)
    assert decided(everything, there)[HF] == "own"


def test_an_attribute_without_any_adapter_is_made_by_prompts() -> None:
    there = possible(tuple(adapter for adapter in ADAPTERS if adapter.group == LB))
    assert there[LF] == ["same-label", "same-label-half", "same-label-late", "prompt"] and there[HF] == ["prompt"]
    found = trials(LB_own=GOOD, HB_same_attribute=GOOD, LB_prompt=GOOD, HB_prompt=GOOD)
    routes = decide(there, found, SynthesizeConfig())
    assert [routes[group].name for group in (LB, HB, LF, HF)] == ["own", "same-attribute", "prompt", "prompt"]
    assert routes[LF].why == "no group with this attribute has an adapter"


def test_an_attribute_of_a_single_group_is_decided_by_that_group() -> None:
    there = {HF: ["own", "prompt"]}
    assert decided(trials(HF_own=GOOD, HF_prompt=GOOD), there) == {HF: "own"}
    assert decided(trials(HF_own=POOR, HF_prompt=GOOD), there) == {HF: "prompt"}


def test_the_reason_tells_the_figures_that_decided() -> None:
    found = ALL_GOOD | trials(LF_same_attribute=POOR, LB_own=FAIR)
    routes = decide(possible(), found, SynthesizeConfig())
    figures = "{} by the attribute's adapters, 90% by prompts"
    assert routes[HF].why == f"groups of an attribute are made alike, by prompts; worst group {figures.format('40%')}"
    assert routes[HB].why == (
        f"groups of an attribute are made alike, by the attribute's adapters; worst group {figures.format('78%')}"
    )


def shared(of: TrialBatch, groups: tuple[Group, ...] = (LB, LF, HB, HF)) -> dict[tuple[Group, str], TrialBatch]:
    """Trials of the adapter that all groups share."""
    return {(group, "shared"): of for group in groups}


WITH_SHARED = possible(shared_guidance=2.5)


def test_the_shared_adapter_is_preferred_unless_those_of_the_attribute_show_its_worst_group_more() -> None:
    everyone = (LB, HB, LF, HF)
    assert decided(ALL_GOOD | shared(GOOD), WITH_SHARED) == dict.fromkeys(everyone, "shared")
    assert decided(ALL_GOOD | shared(FAIR), WITH_SHARED) == dict.fromkeys(everyone, "shared")
    # It shows low flowers rarely: flowers are made by their adapters, buildings by the shared one.
    found = decided(ALL_GOOD | shared(GOOD) | trials(LF_shared=POOR), WITH_SHARED)
    assert found == {LB: "shared", HB: "shared", LF: "same-attribute", HF: "own"}
    # Lent adapters do not show them either: prompts do.
    found = decided(ALL_GOOD | shared(POOR) | trials(LF_same_attribute=POOR), WITH_SHARED)
    assert found == {LB: "own", HB: "same-attribute", LF: "prompt", HF: "prompt"}


def test_without_adapters_of_an_attribute_the_shared_one_is_preferred_to_prompts() -> None:
    there = possible(adapters=ADAPTERS[:2], shared_guidance=2.5)
    found = ALL_GOOD | shared(FAIR)
    assert decided(found, there)[LF] == decided(found, there)[HF] == "shared"
    assert decided(found | shared(POOR), there)[LF] == "prompt"
    assert {(LF, "shared"), (LF, "prompt"), (HF, "shared")} < set(to_try(there, SynthesizeConfig(min_shown=0)))


def test_the_reason_names_all_ways() -> None:
    found = ALL_GOOD | shared(GOOD) | trials(LF_same_attribute=POOR, LF_prompt=POOR, HF_prompt=POOR)
    routes = decide(WITH_SHARED, found, SynthesizeConfig(), least=0.5)
    assert routes[LF].name == "shared" and routes[LF].origin == "shared"
    assert routes[LF].why == (
        "groups of an attribute are made alike, only by the shared adapter all are shown; worst group 90% by the shared "
        "adapter, 40% by the attribute's adapters, 40% by prompts"
    )


def test_the_config_may_ask_for_the_shared_adapter() -> None:
    assert decided({}, WITH_SHARED, routing="shared") == dict.fromkeys((LB, HF, LF, HB), "shared")


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
        ("shared", dict.fromkeys((LB, HF, LF, HB), "prompt")),
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


def test_single_groups_can_be_routed_otherwise() -> None:
    routes = {"low/flower": "composed", "high/flower": "prompt"}
    assert decided(ALL_GOOD, routes=routes) == {LB: "own", HB: "same-attribute", LF: "composed", HF: "prompt"}
    assert decided({}, routing="paper", routes=routes) == {LB: "own", HB: "same-label", LF: "composed", HF: "prompt"}
    assert decide(possible(), ALL_GOOD, SynthesizeConfig(routes=routes))[LF].why == "synthesize.routes says so"


def test_routes_of_unknown_groups_and_impossible_routes_are_refused() -> None:
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


def test_where_an_attribute_has_no_adapter_nothing_is_tried_if_all_is_made_anyway() -> None:
    buildings = possible(ADAPTERS[:2])
    anyway = SynthesizeConfig(min_shown=0)
    assert "same-label" in buildings[LF] and "own" not in buildings[LF], "low flowers could borrow from low buildings"
    compared = [(HB, "same-attribute"), (HB, "prompt"), (LB, "own"), (LB, "prompt")]
    assert to_try(buildings, anyway) == compared
    # Not even what the config names besides: the rule makes them by prompts all the same.
    assert to_try(buildings, SynthesizeConfig(min_shown=0, also_try=("same-label", "composed"))) == compared
    routes = decide(buildings, dict.fromkeys(compared, TrialBatch(24, 20)), anyway)
    assert {group: route.name for group, route in routes.items()} == {
        LB: "own", HB: "same-attribute", LF: "prompt", HF: "prompt",
    }  # fmt: skip
    nothing = possible(())
    assert to_try(nothing, SynthesizeConfig(min_shown=0, also_try=("composed",))) == []
    assert {route.name for route in decide(nothing, {}, SynthesizeConfig()).values()} == {"prompt"}


def test_where_an_attribute_has_no_adapter_its_prompts_are_tried_and_nothing_else() -> None:
    compared = [(HB, "same-attribute"), (HB, "prompt"), (HF, "prompt"), (LB, "own"), (LB, "prompt"), (LF, "prompt")]
    for config in (SynthesizeConfig(), SynthesizeConfig(also_try=("same-label", "composed"))):
        assert to_try(possible(ADAPTERS[:2]), config) == compared
    assert to_try(possible(()), SynthesizeConfig()) == [(group, "prompt") for group in (HB, HF, LB, LF)]


@given(st.sets(st.sampled_from((LB, LF, HB, HF))), st.data())
@settings(deadline=None)
def test_whatever_the_trials_show_an_attribute_is_made_by_adapters_or_by_prompts(
    with_adapters: set[Group], data: st.DataObject
) -> None:
    there = possible(tuple(Adapter(group.slug, group, 0, "", 9) for group in sorted(with_adapters)))
    wanted = to_try(there, SynthesizeConfig())
    found = {key: TrialBatch(24, data.draw(st.integers(0, 24))) for key in wanted}
    routes = decide(there, found, SynthesizeConfig())
    assert set(routes) == set(there) and all(route.name in there[group] for group, route in routes.items())
    for attribute in ("building", "flower"):
        names = {routes[group].name for group in there if group.attribute == attribute}
        assert names == {"prompt"} or "prompt" not in names
        assert names <= {"own", "same-attribute", "prompt"}
        if not any(group.attribute == attribute for group in with_adapters):
            assert names == {"prompt"}
    # The order in which groups come decides nothing.
    assert decide(dict(reversed(there.items())), found, SynthesizeConfig()) == routes

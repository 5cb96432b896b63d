"""What is decided of all groups before a set is made: trial batches for those that need them, and no harm done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import DataConfig, FilterConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised
from fairsynth.stages.synthesize.decisions import Decisions, decide_groups, possible_sources
from fairsynth.stages.synthesize.trial_batches import TrialBatch
from tests.support.synthesize.routes import ADAPTERS, HB, HF, LB, LF, TEMPLATE

ALL = (LB, LF, HB, HF)
REAL = {LB: 300, HF: 300, LF: 15, HB: 15}
WELL, BADLY = Recognised(90, 100), Recognised(50, 100)


class Trials:
    """Makes trial batches of 24 images: so many show their group by each route, 20 where nothing is said."""

    def __init__(self, shown: Mapping[tuple[Group, str], int]) -> None:
        self.shown, self.asked = shown, list[tuple[Group, str]]()

    def __call__(self, wanted: Sequence[tuple[Group, str]]) -> tuple[pa.Table, dict[tuple[Group, str], TrialBatch]]:
        self.asked += wanted
        return pa.table({"n": range(len(wanted))}), {key: TrialBatch(24, self.shown.get(key, 20)) for key in wanted}


def decided(
    shown: Mapping[tuple[Group, str], int] | None = None,
    recognised: Mapping[Group, Recognised] | None = None,
    quota: Mapping[Group, int] | None = None,
    adapters: Any = ADAPTERS,
    real: Mapping[Group, int] = REAL,
    min_probability: float = 0.5,
    mistaken: Mapping[Group, float] | None = None,
    shared_guidance: float | None = None,
    **config: Any,
) -> tuple[Decisions, Trials]:
    trials, how = Trials(shown or {}), SynthesizeConfig(**config)
    quota = quota or dict.fromkeys(ALL, 300)
    possible = possible_sources(
        list(quota), adapters, {**dict.fromkeys(quota, 0), **real}, how, DataConfig(), TEMPLATE, shared_guidance
    )
    judged = dict.fromkeys(quota, WELL) | dict(recognised or {})
    filter_config = FilterConfig(min_probability=min_probability)
    return decide_groups(possible, quota, real, judged, how, filter_config, trials, mistaken or {}), trials


def names(found: Decisions) -> dict[Group, str]:
    """The route of each group that is made, and the reason of each that is not."""
    return {group: route.name for group, route in found.routes.items()} | {
        group: f"not made: {left.reason}" for group, left in found.not_made.items()
    }


def test_where_all_groups_are_shown_all_are_made() -> None:
    found, _ = decided()
    assert names(found) == {LB: "own", HF: "own", LF: "same-attribute", HB: "same-attribute"}
    assert found.tried.num_rows == len(found.trials) == 8


def test_a_group_that_no_route_shows_is_not_made_nor_are_the_others_with_its_attribute() -> None:
    found, trials = decided({(LF, "same-attribute"): 0, (LF, "prompt"): 0})
    assert names(found) == {
        LB: "own", HB: "same-attribute", LF: "not made: trial", HF: "not made: alike",
    }  # fmt: skip
    assert "(low, flower) cannot be shown" in found.not_made[HF].why
    assert "0 of 24 images by same-attribute, 0 of 24 images by prompt" in found.not_made[LF].why
    # The large groups have trial batches, too.
    assert {(LB, "own"), (HF, "own")} < set(trials.asked)


def test_a_large_group_that_its_own_adapters_do_not_show_is_not_made_either() -> None:
    found, _ = decided({(HF, "own"): 3, (HF, "prompt"): 3})
    assert names(found)[HF] == "not made: trial" and names(found)[LF] == "not made: alike"


def test_prompts_are_taken_if_they_alone_show_all_groups_of_an_attribute() -> None:
    # 10 and 16 of 24 are not far enough apart to be told apart, but 10 are too few (0.245 at the lower end).
    found, _ = decided({(LF, "same-attribute"): 10, (LF, "prompt"): 16, (HF, "prompt"): 16})
    assert names(found)[LF] == names(found)[HF] == "prompt"
    assert found.routes[LF].why == (
        "groups of an attribute are made alike, only by prompts all are shown; worst group 42% by the attribute's adapters, "
        "67% by prompts"
    )
    # Where prompts do not show the other group either, none is made.
    found, _ = decided({(LF, "same-attribute"): 10, (LF, "prompt"): 16, (HF, "prompt"): 10})
    assert names(found)[LF] == "not made: trial" and names(found)[HF] == "not made: alike"


def test_lent_adapters_are_taken_if_they_show_a_group_that_its_own_do_not() -> None:
    own = (*ADAPTERS, ADAPTERS[0]._replace(name="low--flower--0", group=LF))
    shown = {(LF, "own"): 10, (LF, "same-attribute"): 16, (LF, "prompt"): 0}
    assert names(decided(shown, adapters=own)[0])[LF] == "same-attribute"
    assert names(decided(shown | {(LF, "own"): 11}, adapters=own)[0])[LF] == "own"


def test_groups_of_an_attribute_without_adapters_are_judged_by_their_prompts() -> None:
    found, trials = decided({(LF, "prompt"): 2}, adapters=ADAPTERS[:2])
    assert names(found) == {LB: "own", HB: "same-attribute", LF: "not made: trial", HF: "not made: alike"}
    assert (LF, "prompt") in trials.asked and (LF, "same-label") not in trials.asked
    assert names(decided(adapters=())[0]) == dict.fromkeys(ALL, "prompt")


def test_with_zero_all_are_made_whatever_the_trials_show() -> None:
    nothing = {(group, route): 0 for group in ALL for route in ("own", "same-attribute", "prompt")}
    found, _ = decided(nothing, min_shown=0)
    assert not found.not_made and names(found)[LF] == "same-attribute"
    assert not decided(nothing)[0].routes


def test_a_route_that_the_config_names_is_obeyed() -> None:
    nothing = {(group, route): 0 for group in ALL for route in ("own", "same-attribute", "prompt")}
    found, _ = decided(nothing, routes={"low/flower": "same-label"})
    assert names(found) == {
        LF: "same-label", HF: "not made: trial", LB: "not made: trial", HB: "not made: trial",
    }  # fmt: skip
    # Neither by what the probe knows, nor for the sake of another group.
    found, _ = decided(recognised={LF: BADLY, HF: BADLY}, routes={"low/flower": "prompt"})
    assert names(found)[LF] == "prompt" and names(found)[HF] == "not made: probe"
    # And it takes no other along.
    found, _ = decided({(LF, "prompt"): 0}, routes={"low/flower": "prompt"})
    assert names(found) == {LB: "own", HB: "same-attribute", LF: "prompt", HF: "own"}


def test_a_group_that_the_probe_does_not_know_has_no_trial_batch() -> None:
    found, trials = decided(recognised={LF: BADLY})
    assert names(found) == {
        LB: "own", HB: "same-attribute", LF: "not made: probe", HF: "not made: alike",
    }  # fmt: skip
    assert {group for group, _ in trials.asked} == {LB, HB}
    assert "50 of 100" in found.not_made[LF].why


def test_a_group_that_many_wrong_images_would_pass_for_is_not_made() -> None:
    # 16 of 24 images pass. If the probe takes three in ten of other groups' images for it, a third of those that pass may be wrong.
    found, _ = decided({(LF, "same-attribute"): 16}, mistaken={LF: 0.3})
    assert names(found)[LF] == "not made: unsure" and names(found)[HF] == "not made: alike"
    assert "up to 30% for it" in found.not_made[LF].why and "filter.min_right" in found.not_made[LF].why
    assert not decided({(LF, "same-attribute"): 16}, mistaken={LF: 0.05})[0].not_made
    # Where the probe is not asked, or the group has a route by name, nothing hangs on its errors.
    assert not decided({(LF, "same-attribute"): 16}, mistaken={LF: 0.3}, min_probability=0)[0].not_made
    assert LF in decided(mistaken={LF: 0.9}, routes={"low/flower": "prompt"})[0].routes


def test_where_too_many_images_of_the_shared_adapter_would_be_wrong_the_attribute_is_made_otherwise() -> None:
    # 12 and 20 of 24 are not far enough apart for another way to be preferred.
    shown, errs = {(LF, "shared"): 12}, {LF: 0.15}
    found, _ = decided(shown, mistaken=errs, shared_guidance=2.0)
    assert names(found) == {LB: "shared", HB: "shared", LF: "same-attribute", HF: "own"}
    assert names(decided(shown, mistaken={}, shared_guidance=2.0)[0])[LF] == "shared"
    # If the others fail, too, the reason is that of the way that was preferred.
    found, _ = decided({**shown, (LF, "same-attribute"): 12, (LF, "prompt"): 12}, mistaken=errs, shared_guidance=2.0)
    assert names(found)[LF] == "not made: unsure" and names(found)[HF] == "not made: alike"


def test_where_the_filter_asks_no_probe_nothing_hangs_on_what_it_knows() -> None:
    assert not decided(recognised={LF: BADLY}, min_probability=0)[0].not_made


def test_other_routings_make_no_trials_and_all_groups_that_the_probe_knows() -> None:
    for routing in ("paper", "own", "same-attribute", "prompt"):
        found, trials = decided(routing=routing)
        assert trials.asked == [] and not found.not_made and found.trials == {}
        assert set(decided(recognised={LF: BADLY}, routing=routing)[0].not_made) == {LF, HF}


def test_groups_that_need_no_images_are_not_left_out_and_take_none_along() -> None:
    quota = {LB: 0, HF: 0, LF: 285, HB: 285}
    found, _ = decided({(HF, "own"): 0, (HF, "prompt"): 0}, quota=quota)
    assert not found.not_made
    found, _ = decided({(LF, "same-attribute"): 0, (LF, "prompt"): 0}, quota=quota)
    assert names(found)[LF] == "not made: trial" and names(found)[HF] == "own"


def test_a_group_without_real_images_that_is_not_shown_is_left_out_alone() -> None:
    real = {LB: 300, HF: 300, HB: 15}
    found, _ = decided({(LF, "same-attribute"): 0, (LF, "prompt"): 0}, real=real)
    assert names(found) == {LB: "own", HB: "same-attribute", LF: "not made: trial", HF: "own"}


def test_routes_of_unknown_groups_are_refused_before_anything_is_made() -> None:
    with pytest.raises(ValueError, match="names 'low/sea', but the groups are"):
        decided(routes={"low/sea": "prompt"})


@given(st.data())
@settings(deadline=None)
def test_within_an_attribute_all_groups_are_made_or_none(data: st.DataObject) -> None:
    counts = st.integers(0, 24)
    shown = {(group, route): data.draw(counts) for group in ALL for route in ("own", "same-attribute", "prompt")}
    judged = {group: Recognised(data.draw(st.integers(0, 20)), 20) for group in ALL}
    found, _ = decided(shown, judged)
    assert found.routes.keys() | found.not_made.keys() == set(ALL) and not found.routes.keys() & found.not_made.keys()
    for attribute in ("building", "flower"):
        assert len({group in found.routes for group in ALL if group.attribute == attribute}) == 1
    for group, route in found.routes.items():
        assert found.trials[group, route.name].right >= 11 and judged[group].right >= 14

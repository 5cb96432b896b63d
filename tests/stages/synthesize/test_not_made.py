"""Groups that are not made: their reasons in words and numbers, and those that go with them."""

from __future__ import annotations

from fairsynth.groups import Group
from fairsynth.models.probe import ENOUGH, Recognised
from fairsynth.stages.synthesize.not_made import NotMade, alike, by_likely, by_probe, by_trials
from fairsynth.stages.synthesize.routing import Route
from fairsynth.stages.synthesize.trial_batches import TrialBatch
from tests.support.synthesize.routes import HB, HF, LB, LF

WHY = NotMade("trial", "why")


def test_a_group_whose_real_images_the_probe_does_not_recognise_is_not_made() -> None:
    counts = {LB: Recognised(69, 100), LF: Recognised(70, 100), HB: Recognised(100, 100)}
    (found,) = by_probe(counts, 0.7).items()
    assert found == (
        LB,
        NotMade(
            "probe",
            "the filter's probe recognises 69 of 100 real images of it that it has not learnt from, and 70% are needed "
            "(filter.min_recognised)",
        ),
    )
    assert set(by_probe(counts, 0.71)) == {LB, LF}


def test_by_few_images_a_probe_is_not_judged() -> None:
    assert ENOUGH == 10
    assert by_probe({LB: Recognised(0, 9), LF: Recognised(0, 0)}, 0.7) == {}
    assert set(by_probe({LB: Recognised(0, 10)}, 0.7)) == {LB}


def test_where_no_share_is_asked_for_the_probe_is_not_judged() -> None:
    assert by_probe({LB: Recognised(0, 100)}, 0.0) == {}


def test_a_group_that_its_route_does_not_show_is_not_made() -> None:
    routes = {LB: Route("own", ""), LF: Route("same-attribute", ""), HB: Route("prompt", "")}
    trials = {
        (LB, "own"): TrialBatch(24, 20),
        (LB, "prompt"): TrialBatch(24, 0),
        (LF, "prompt"): TrialBatch(24, 1),
        (LF, "same-attribute"): TrialBatch(24, 2),
    }
    (found,) = by_trials(routes, trials, 0.25).items()
    assert found == (
        LF,
        NotMade(
            "trial",
            "its trial batches do not show it: 1 of 24 images by prompt, 2 of 24 images by same-attribute; by the lower "
            "end of the 95 % interval 25% are needed (synthesize.min_shown)",
        ),
    )
    assert by_trials(routes, trials, 0.0) == {}


def test_a_route_that_was_not_tried_is_trusted() -> None:
    assert by_trials({LB: Route("composed", "")}, {(LB, "own"): TrialBatch(24, 0)}, 0.25) == {}


def test_the_other_groups_with_the_attribute_are_not_made_either() -> None:
    found = alike({LF: WHY}, {LF: 15, HF: 300}, {LB, LF, HB, HF})
    assert found == {HF: NotMade("alike", "groups of an attribute are made alike: (low, flower) cannot be shown")}


def test_all_that_cannot_be_shown_are_named() -> None:
    third = Group("middle", "flower")
    found = alike({LF: WHY, third: WHY}, {LF: 15, third: 2, HF: 300}, {LF, HF, third})
    assert found[HF].why.endswith("alike: (low, flower), (middle, flower) cannot be shown")
    assert set(found) == {HF}


def test_a_group_without_real_images_takes_no_other_along() -> None:
    assert alike({LF: WHY}, {HF: 300}, {LF, HF}) == {}
    assert alike({LF: WHY}, {LF: 0, HF: 300}, {LF, HF}) == {}


def test_groups_that_are_not_asked_about_stay() -> None:
    assert alike({LF: WHY}, {LF: 15, HF: 300}, {LF}) == {}


def test_by_the_probes_errors_only_groups_are_judged_of_which_enough_is_known() -> None:
    routes, trials = {LF: Route("shared", "")}, {(LF, "shared"): TrialBatch(24, 10)}
    well = {LF: Recognised(18, 18)}
    assert set(by_likely(routes, trials, well, {LF: 0.3}, 0.9)) == {LF}
    assert by_likely(routes, trials, well, {LF: 0.3}, 0.0) == {}
    assert by_likely(routes, trials, {LF: Recognised(9, 9)}, {LF: 0.3}, 0.9) == {}
    assert by_likely(routes, trials, well, {}, 0.9) == by_likely(routes, {}, well, {LF: 0.3}, 0.9) == {}

"""When a trial batch shows its group: by the lower end of the interval, beyond chance, and never for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth.config import SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.metrics import wilson
from fairsynth.models.probe import Recognised
from fairsynth.stages.synthesize.trial_batches import TrialBatch, least_share, likely_right, shows

DEFAULT = SynthesizeConfig().min_shown


def groups(labels: int, attributes: int) -> list[Group]:
    return [Group(f"y{y}", f"a{a}") for y in range(labels) for a in range(attributes)]


@pytest.mark.parametrize(
    ("labels", "attributes", "least"),
    # By chance 1/2, 1/4, 1/9 and 1/24 of the images show their group; of one group alone nothing can be told.
    [(2, 1, 0.5), (2, 2, 0.25), (3, 3, 0.25), (12, 2, 0.25), (1, 1, 0.25), (1, 3, 1 / 3)],
)
def test_the_share_that_is_needed_is_no_less_than_chance(labels: int, attributes: int, least: float) -> None:
    assert least_share(groups(labels, attributes), 0.25) == pytest.approx(least)
    assert least_share(groups(labels, attributes), 0.6) == 0.6
    assert least_share(groups(labels, attributes), 0) == 0


def test_a_group_is_shown_if_its_share_is_sure_to_be_enough_by_hand() -> None:
    # Wilson's lower ends for 24 images: 10 give 0.245, 11 give 0.279.
    assert [shows(TrialBatch(24, right), 0.25) for right in (0, 6, 10, 11, 24)] == [False, False, False, True, True]
    # The same share of more images is surer: 29 of 100 give 0.21, 350 of 1000 give 0.32.
    assert not shows(TrialBatch(100, 29), 0.25) and shows(TrialBatch(1000, 350), 0.25)
    assert not shows(TrialBatch(0, 0), 0.25)


def test_where_nothing_is_needed_everything_is_shown() -> None:
    assert shows(TrialBatch(24, 0), 0) and shows(TrialBatch(0, 0), 0)


@given(st.integers(1, 200), st.integers(0, 200))
def test_by_the_default_an_accepted_image_costs_at_most_four(made: int, right: int) -> None:
    trial = TrialBatch(made, min(made, right))
    if shows(trial, DEFAULT):
        assert trial.agreement >= 0.25 and wilson(trial.right, trial.made).low >= 0.25


def test_more_images_that_show_their_group_never_do_harm() -> None:
    for made in (1, 2, 8, 24, 100):
        verdicts = [shows(TrialBatch(made, right), DEFAULT) for right in range(made + 1)]
        assert verdicts == sorted(verdicts)


def test_what_is_likely_right_by_hand() -> None:
    # s = 19/20; of 24 images 12 pass; a tenth of the others would: p = (.5 - .1) / (.95 - .1) = .47 show it.
    found = likely_right(TrialBatch(24, 12), Recognised(18, 18), 0.1)
    assert found == pytest.approx(1 - 0.1 * (1 - 0.4 / 0.85) / 0.5)
    # No more pass than do by the probe's errors: none of them is right. All pass: all are.
    assert likely_right(TrialBatch(20, 2), Recognised(18, 18), 0.1) == 0.0
    assert likely_right(TrialBatch(24, 24), Recognised(18, 18), 0.1) == 1.0
    # A probe that takes others for the group as often as its own images tells nothing.
    assert likely_right(TrialBatch(24, 24), Recognised(18, 18), 0.95) == 0.0
    assert likely_right(TrialBatch(24, 0), Recognised(18, 18), 0.1) == 0.0
    # Copies and look-alikes pass the probe, too: they do not speak against the others.
    assert likely_right(TrialBatch(24, 12, 24), Recognised(18, 18), 0.1) == 1.0


@given(st.integers(1, 200), st.floats(0.6, 0.99), st.floats(0.01, 0.5), st.floats(0.05, 1))
def test_the_share_of_right_images_is_found_again(n: int, seen: float, mistaken: float, showing: float) -> None:
    """Of a batch in which a known share shows the group, with the probe's errors as they are on average."""
    judged = 10_000
    passing = showing * seen + (1 - showing) * mistaken
    trial = TrialBatch(1_000_000, round(1_000_000 * passing))
    found = likely_right(trial, Recognised(round(seen * (judged + 2)) - 1, judged), mistaken)
    assert found == pytest.approx(showing * seen / passing, abs=0.02)

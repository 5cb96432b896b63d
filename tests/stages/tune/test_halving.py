"""Which trials go on: decided by settings and seed alone."""

from __future__ import annotations

import random

import pytest

from fairsynth.classify.epoch import Epoch
from fairsynth.classify.methods import TITLES, Phase, phases
from fairsynth.config import ClassifyConfig
from fairsynth.stages.tune.halving import Trial, best, promoted, rungs, trial_of
from fairsynth.stages.tune.search_space import setting


def trial(
    number: int, promise: float = 0.5, wga: float | None = 0.5, accuracy: float | None = 0.5, **more: float
) -> Trial:
    return Trial("erm", number, {}, wga, more.get("worst_class", wga), accuracy, (promise, 0.5), 5, True)


def epoch(number: int, wga: float, accuracy: float, selectable: bool = True) -> Epoch:
    return Epoch(number, 1, 0.1, wga, wga + 0.1, accuracy, selectable)


@pytest.mark.parametrize(
    ("longest", "grace", "expected"),
    [(50, 5, [5, 15, 45]), (45, 5, [5, 15]), (16, 20, []), (5, 5, []), (10, 1, [1, 3, 9])],
)
def test_rungs_begin_after_the_grace_period_and_end_before_the_end(
    longest: int, grace: int, expected: list[int]
) -> None:
    assert rungs([Phase("ce", longest)], grace) == expected


def test_methods_of_several_phases_run_whole() -> None:
    config = ClassifyConfig(pretrain_epochs=50, synthetic="pretrain", stage_2="last-layer")
    single = {name for name in TITLES if rungs(phases(name, setting(name, 0, config, 0), config), 5)}
    assert single == {"erm", "resample", "reweight", "group-dro", "lff", "lisa"}
    mixed = config.model_copy(update={"synthetic": "mix", "stage_2": "none"})
    assert rungs(phases("fairsynth", setting("fairsynth", 0, mixed, 0), mixed), 5) == [5, 15, 45]


@pytest.mark.parametrize(("n", "kept"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 6), (27, 9)])
def test_the_best_third_goes_on(n: int, kept: int) -> None:
    trials = [trial(i, promise=i / 100) for i in range(n)]
    random.Random(0).shuffle(trials)
    assert promoted(trials) == set(range(n - kept, n))


def test_of_equals_the_earlier_goes_on() -> None:
    assert promoted([trial(i) for i in (4, 2, 3, 1)]) == {1, 2}


def test_a_trials_record_has_its_best_epoch_that_may_be_chosen_and_its_best_of_all() -> None:
    history = [epoch(0, 0.9, 0.9, selectable=False), epoch(1, 0.3, 0.8), epoch(2, 0.4, 0.6)]
    found = trial_of("ffr", 3, {"epochs": 1}, history, history[2], "worst-group", True)
    assert (found.worst_group_accuracy, found.worst_class_accuracy, found.accuracy) == (0.4, 0.5, 0.6)
    assert found.promise == (0.9, 0.9) and found.epochs == 3 and found.finished
    nothing = trial_of("ffr", 3, {}, history[:1], None, "worst-group", False)
    assert nothing.worst_group_accuracy is None and nothing.merit("worst-group") == (-1, -1)


def test_the_best_trial_is_by_the_rule_then_by_accuracy_then_the_earlier() -> None:
    trials = [
        trial(0, wga=0.5, accuracy=0.9, worst_class=0.6),
        trial(1, wga=0.6, accuracy=0.7, worst_class=0.5),
        trial(2, wga=0.6, accuracy=0.8, worst_class=0.5),
        trial(3, wga=0.6, accuracy=0.8, worst_class=0.5),
        trial(4, wga=None, accuracy=None),
    ]
    assert [best(trials, rule).number for rule in ("worst-group", "worst-class", "accuracy")] == [2, 0, 0]


def test_what_has_ended_takes_no_place_of_those_that_go_on() -> None:
    """Of nine trials three go on; the three that led and diverged are not among those that are ranked."""
    led = [trial(n, promise=1 - n / 100) for n in range(9)]
    assert promoted(led[3:], 9) == {3, 4, 5} and promoted(led[3:]) == {3, 4} and promoted([], 9) == set()

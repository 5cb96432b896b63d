"""Settings of the search: defaults first, then draws that do not disturb each other."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from fairsynth.classify.methods import TITLES, numbers, phases
from fairsynth.classify.policies import PAPERS, POLICIES, Policy, Setting, policies, policy_of
from fairsynth.config import ClassifyConfig
from fairsynth.errors import ConfigError
from fairsynth.stages.tune import search_space
from fairsynth.stages.tune.search_space import Range, setting, space, suggested

CONFIG = ClassifyConfig(pretrain_epochs=40, synthetic="pretrain", stage_2="last-layer", augmentation="light")
# All policies of fairsynth.
OPEN = ClassifyConfig(pretrain_epochs=40)
METHODS = sorted(TITLES)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_trial_has_the_defaults_for_every_seed(method: str) -> None:
    for seed in (0, 1, 99):
        assert setting(method, 0, CONFIG, seed) == {
            name: known.default for name, known in space(method, CONFIG).items()
        } | {"epochs": 40} | (PAPERS._asdict() if method == "fairsynth" else {"augmentation": "light"})


def test_the_fields_own_defaults() -> None:
    assert setting("group-dro", 0, CONFIG, 0)["step_size"] == 0.01
    ours = setting("fairsynth", 0, CONFIG, 0)
    assert (ours["beta"], ours["temperature"]) == (0.5, 0.1)
    assert setting("fairsynth", 0, ClassifyConfig(synthetic="mix"), 0)["beta"] == 1.0
    real = setting("fairsynth", 0, ClassifyConfig(synthetic="none", beta=0.5), 0)
    assert not {"beta", "temperature"} & {*real}


@pytest.mark.parametrize("method", METHODS)
def test_values_lie_in_their_ranges_and_fill_them(method: str) -> None:
    drawn = [setting(method, trial, CONFIG, 0) for trial in range(1, 201)]
    assert {s["epochs"] for s in drawn} == {20, 30, 40}
    for name, (default, low, high, logarithmic) in space(method, CONFIG).items():
        values = [numbers(s)[name] for s in drawn]
        assert low <= default <= high and low <= min(values) and max(values) <= high
        scale = math.log if logarithmic else float
        places = sorted((scale(v) - scale(low)) / (scale(high) - scale(low)) for v in values)
        # 200 uniform draws: the largest gap to the uniform distribution is below 0.14 in all but 1 of 1000 cases.
        assert max(abs(place - (i + 0.5) / 200) for i, place in enumerate(places)) < 0.14


def test_only_what_the_policy_needs_is_searched() -> None:
    def names(**changed: str) -> set[str]:
        return set(space("fairsynth", ClassifyConfig(**changed))) - set(space("erm", CONFIG))  # type: ignore[arg-type]

    supcon = {"beta", "temperature"}
    paper = names(synthetic="pretrain", stage_2="last-layer")
    assert paper == supcon | {"head_learning_rate", "head_weight_decay"}
    assert names(synthetic="pretrain", stage_2="group-dro") == paper | {"step_size", "adjustment"}
    assert names(synthetic="pretrain", stage_2="full") == supcon | {"full_learning_rate", "full_weight_decay"}
    assert names(synthetic="mix", stage_2="dfr") == names(synthetic="mix", stage_2="none") == supcon
    assert names(synthetic="fill", stage_2="full") == names(synthetic="pretrain", stage_2="full")
    # Of real images alone: ERM's, and Group-DRO's.
    assert names(synthetic="none", stage_2="none") == names(synthetic="none", stage_2="dfr") == set()
    assert space("fairsynth", ClassifyConfig(synthetic="none", stage_2="group-dro")) == space("group-dro", CONFIG)


def test_the_policies_of_fairsynth_take_turns_each_first_with_its_defaults() -> None:
    drawn = [setting("fairsynth", trial, OPEN, 0) for trial in range(3 * len(POLICIES))]
    assert [policy_of(s, OPEN) for s in drawn] == [*POLICIES] * 3
    for trial, one in enumerate(drawn):
        known = space("fairsynth", OPEN, POLICIES[trial % len(POLICIES)])
        assert set(one) == {*known, *Policy._fields, "epochs"}
        assert all(one[name] == known[name].default for name in known) == (trial < len(POLICIES))
    # What the config says is not searched; both parts may be said, also where no policy of the list has them.
    mixed = ClassifyConfig(synthetic="mix")
    turns = [policy_of(setting("fairsynth", trial, mixed, 0), mixed) for trial in range(8)]
    assert turns == [*policies(mixed)] * 2 and {policy.synthetic for policy in turns} == {"mix"}
    only = ClassifyConfig(synthetic="fill", stage_2="group-dro")
    assert {setting("fairsynth", trial, only, 0)["stage_2"] for trial in range(9)} == {"group-dro"}


@pytest.mark.parametrize("synthetic", [None, "none", "pretrain", "mix", "fill"])
@pytest.mark.parametrize("stage_2", [None, "last-layer", "full", "group-dro", "dfr", "none"])
def test_every_setting_can_be_trained_whatever_is_left_open(synthetic: Any, stage_2: Any) -> None:
    config = ClassifyConfig(synthetic=synthetic, stage_2=stage_2)
    images = {"none": "train", "pretrain": "synthetic", "mix": "mixed", "fill": "filled"}
    for trial in range(len(POLICIES)):
        one = setting("fairsynth", trial, config, 0)
        assert synthetic in (None, one["synthetic"]) and stage_2 in (None, one["stage_2"])
        found, policy = phases("fairsynth", one, config), policy_of(one, config)
        alone = policy.stage_2 == "none" or policy.whole_group_dro
        assert len(found) == 2 - alone and found[-1].selectable
        assert found[0].images == images[policy.synthetic]
        assert (found[0].validation, found[0].averaged) == (policy.validation == "learn",) * 2
        assert found[0].strong == (policy.augmentation in ("strong", "styles"))
        assert found[0].styles == (policy.augmentation == "styles")
        bounded = policy.augmentation == "styles" and policy[:3] == ("none", "none", "learn")
        assert [phase.loss == "bounded" for phase in found] == [bounded] + [False] * (len(found) - 1)


def test_a_second_stage_has_no_bounded_loss() -> None:
    config = ClassifyConfig(synthetic="pretrain", stage_2="full", validation="learn", augmentation="styles")
    found = phases("fairsynth", setting("fairsynth", 0, config, 0), config)
    assert [(phase.loss, phase.validation, phase.styles) for phase in found] == [
        ("supcon", True, True),
        ("ce", True, True),
    ]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fairsynth"])
def test_every_other_method_tries_strong_changes_too_each_first_with_its_defaults(method: str) -> None:
    drawn = [setting(method, trial, OPEN, 0) for trial in range(6)]
    assert [one["augmentation"] for one in drawn] == ["light", "strong"] * 3
    first, second, third = ({**one, "augmentation": ""} for one in drawn[:3])
    assert first == second and first != third
    for one in drawn[:2]:
        whole = [phase for phase in phases(method, one, OPEN) if not phase.head_only]
        assert whole and all(phase.strong == (one["augmentation"] == "strong") for phase in whole)
    assert {
        one["augmentation"]
        for one in (setting(method, t, OPEN.model_copy(update={"augment": False}), 0) for t in range(4))
    } == {"light"}


def test_optuna_chooses_among_the_policies_and_learns_which_is_good() -> None:
    def worth(one: Setting) -> float:
        return float(one["synthetic"] == "mix") + float(one["stage_2"] == "dfr")

    known = [(s, worth(s)) for s in (setting("fairsynth", trial, OPEN, 0) for trial in range(len(POLICIES)))]
    for wave in range(1, 4):
        chosen = suggested("fairsynth", range(12 * wave, 12 * wave + 12), known, OPEN, 0)
        known += [(s, worth(s)) for s in chosen]
    for one, _ in known:
        assert phases("fairsynth", one, OPEN) and set(space("fairsynth", OPEN, policy_of(one, OPEN))) <= set(one)
    assert np.mean([value for _, value in known[-12:]]) > np.mean([value for _, value in known[:12]]) + 0.3


def test_the_same_trial_is_always_the_same_and_others_differ() -> None:
    trials = [setting("fairsynth", trial, CONFIG, seed) for seed in (0, 1) for trial in range(1, 30)]
    assert trials == [setting("fairsynth", trial, CONFIG, seed) for seed in (0, 1) for trial in range(1, 30)]
    assert len({tuple(sorted(t.items())) for t in trials}) == len(trials)
    assert setting("erm", 3, CONFIG, 0)["learning_rate"] != setting("group-dro", 3, CONFIG, 0)["learning_rate"]


def test_a_new_hyperparameter_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [setting("fairsynth", trial, CONFIG, 5) for trial in range(8)]
    narrow = search_space.space
    wider = {"aaa": Range(0.5, 0.0, 1.0, False), **narrow("fairsynth", CONFIG), "zzz": Range(1.0, 0.1, 10.0, True)}
    monkeypatch.setattr(search_space, "space", lambda method, config, policy: wider)
    after = [dict(setting("fairsynth", trial, CONFIG, 5)) for trial in range(8)]
    assert {s.pop("aaa") for s in after} and {s.pop("zzz") for s in after}
    assert after == before


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_there_is_always_an_epoch(epochs: int) -> None:
    config = ClassifyConfig(pretrain_epochs=epochs)
    assert all(1 <= setting("erm", trial, config, 0)["epochs"] <= epochs for trial in range(50))


def reward(one: Setting) -> float:
    """Best at a learning rate of 0.002, and a little better the smaller the weight decay."""
    values = numbers(one)
    return -abs(math.log(values["learning_rate"] / 0.002)) - 0.01 * math.log(values["weight_decay"])


def test_optuna_learns_from_what_came_of_the_trials() -> None:
    known = [(s, reward(s)) for s in (setting("erm", trial, CONFIG, 0) for trial in range(8))]
    for wave in range(1, 5):
        chosen = suggested("erm", range(12 * wave, 12 * wave + 12), known, CONFIG, 0)
        known += [(s, reward(s)) for s in chosen]
    first, last = (np.mean([value for _, value in part]) for part in (known[:12], known[-12:]))
    assert last > first + 0.2
    for values, _ in known:
        for name, known_range in space("erm", CONFIG).items():
            assert known_range.low <= numbers(values)[name] <= known_range.high
        assert values["epochs"] in (20, 30, 40)


def test_optunas_choice_hangs_on_what_is_known_alone() -> None:
    known = [(s, reward(s)) for s in (setting("fairsynth", trial, CONFIG, 0) for trial in range(4))]
    one, two = (suggested("fairsynth", [4, 5], known, CONFIG, 0) for _ in range(2))
    assert one == two and one[0] != one[1]
    assert suggested("fairsynth", [6, 7], known, CONFIG, 0) != one
    assert suggested("fairsynth", [4, 5], known, CONFIG, 1) != one
    fixed = CONFIG.model_copy(update={"beta": 0.7})
    assert {s["beta"] for s in suggested("fairsynth", [4, 5], known, fixed, 0)} == {0.7}


def test_without_optuna_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'fairsynth\[optuna\]', or --tune.search random"):
        suggested("erm", [1], [(setting("erm", 0, CONFIG, 0), 0.5)], CONFIG, 0)

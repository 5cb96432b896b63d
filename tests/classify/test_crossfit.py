"""Cross-fitting: whatever a policy does with validation images, all of them judge it, each in a half that it did not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.classify import crossfit
from fairsynth.classify.crossfit import CrossFit, half_of
from fairsynth.classify.images import Data, Images, taken
from fairsynth.classify.policies import POLICIES, Policy
from fairsynth.classify.training import Training
from fairsynth.config import ClassifyConfig
from tests.support.training import CONFIG, SETTING, data

__all__ = ["data"]

# Ways that end in a refit on validation images, learn from them, or choose epochs by them alone.
KINDS = [
    Policy("none", "dfr", "choose", "light"),
    Policy("mix", "dfr", "choose", "light"),
    Policy("none", "none", "learn", "light"),
    Policy("none", "none", "choose", "light"),
    Policy("pretrain", "last-layer", "choose", "light"),
]


def pictures(images: Images) -> list[bytes]:
    """Every image as what tells it from others."""
    return [images.pixels[np.array([place])].tobytes() for place in range(len(images))]


class Watched(Training):
    """Remembers the validation images that each choice has, and the last that it is asked about."""

    runs: ClassVar[list[Watched]] = []

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.used, self.asked = 0, dict[int, list[bytes]]()
        Watched.runs.append(self)

    def use(self, number: int) -> None:
        """As ever."""
        self.used = number
        super().use(number)

    def probabilities(self, images: Images) -> Any:
        """As ever."""
        self.asked[self.used] = pictures(images)
        return super().probabilities(images)


def short(policy: Policy) -> tuple[dict[str, Any], ClassifyConfig]:
    """A setting and a config for a training of few epochs."""
    config = CONFIG.model_copy(update={"pretrain_epochs": 2, "finetune_epochs": 2, **policy._asdict()})
    return {**SETTING, **policy._asdict(), "epochs": 2}, config


def cross_fitted(data: Data, policy: Policy, state: Path) -> NDArray[np.int64]:
    setting, config = short(policy)
    fit = CrossFit("fairsynth", setting, data, config, 3, "worst-group")
    return fit.predicted(state, 1e9, lambda count, epoch: None)


@pytest.fixture
def halves(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a policy; gives for each half the images that it had and those that it was judged by, and trainings' number."""

    def run(policy: Policy) -> tuple[list[tuple[list[bytes], list[bytes]]], int]:
        monkeypatch.setattr(crossfit, "Training", Watched)
        monkeypatch.setattr(Watched, "runs", [])
        predicted = cross_fitted(data, policy, tmp_path / "state.safetensors")
        assert predicted.shape == (len(data.validation),) and {*predicted.tolist()} <= {0, 1}
        found = [
            (pictures(choice.known), run.asked[number])
            for run in Watched.runs
            for number, choice in enumerate(run.choices)
        ]
        return found, len(Watched.runs)

    return run


@pytest.mark.parametrize("policy", KINDS, ids=" ".join)
def test_each_image_judges_the_training_that_did_not_have_it(halves: Any, data: Data, policy: Policy) -> None:
    everyone = pictures(data.validation)
    assert len({*everyone}) == len(everyone)
    (first, second), _ = halves(policy)
    for had, judged in (first, second):
        assert not {*had} & {*judged} and {*had} | {*judged} == {*everyone} and len(had) == len(judged)
    assert {*first[1]} == {*second[0]} and len(first[1]) + len(second[1]) == len(everyone)


def test_policies_of_all_kinds_are_judged_by_the_same_halves(halves: Any) -> None:
    assert {policy.stage_2 for policy in POLICIES} <= {policy.stage_2 for policy in KINDS} | {"group-dro"}
    found = [halves(policy)[0] for policy in KINDS]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("policy", KINDS, ids=" ".join)
def test_one_training_for_both_halves_is_what_two_would_have_been(
    halves: Any, data: Data, tmp_path: Path, policy: Policy
) -> None:
    """Its predictions are those of a training for each half; only where validation is learnt from there are two."""
    setting, config = short(policy)
    half_N, expected = half_of(data.validation.groups, 3), np.full(len(data.validation), -1)
    for half in range(2):
        known, judges = (np.flatnonzero((half_N == half) == own) for own in (True, False))
        run = Training("fairsynth", setting, replace(data, validation=taken(data.validation, known)), config, 3)
        for _ in run.epochs():
            pass
        expected[judges] = run.probabilities(taken(data.validation, judges)).argmax(1)
    assert np.array_equal(cross_fitted(data, policy, tmp_path / "other.safetensors"), expected)
    assert halves(policy)[1] == (2 if policy.validation == "learn" else 1)


def test_halves_share_out_every_group_and_are_others_for_another_seed() -> None:
    groups = np.repeat([0, 1, 2, 3], (10, 5, 1, 1))
    half = half_of(groups, 0)
    sizes = [np.bincount(half[groups == group], minlength=2).tolist() for group in range(4)]
    assert sizes[0] == [5, 5] and sorted(sizes[1]) == [2, 3]
    # Odd images go to either half in turn, so neither is larger by more than one.
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= 1
    assert not np.array_equal(half, half_of(groups, 1)) and np.array_equal(half, half_of(groups, 0))

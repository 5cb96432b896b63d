"""Cross-fitting: whatever a policy does with validation images, all of them judge it, each in a half that it did not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fairsynth.classify import crossfit
from fairsynth.classify.crossfit import CrossFit, half_of
from fairsynth.classify.images import Data, Images
from fairsynth.classify.policies import POLICIES, Policy
from fairsynth.classify.training import Training
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
    """Remembers the validation images that each training has, and the last that it is asked about."""

    runs: ClassVar[list[Watched]] = []

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.has, self.asked = pictures(self.data.validation), list[bytes]()
        Watched.runs.append(self)

    def probabilities(self, images: Images) -> Any:
        """As ever."""
        self.asked = pictures(images)
        return super().probabilities(images)


@pytest.fixture
def halves(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a policy; gives for each of its trainings the images that it had and those that it was judged by."""

    def run(policy: Policy) -> list[tuple[list[bytes], list[bytes]]]:
        monkeypatch.setattr(crossfit, "Training", Watched)
        monkeypatch.setattr(Watched, "runs", [])
        config = CONFIG.model_copy(update={"pretrain_epochs": 1, "finetune_epochs": 1, **policy._asdict()})
        setting = {**SETTING, **policy._asdict(), "epochs": 1}
        fit = CrossFit("fairsynth", setting, data, config, 3, "worst-group")
        predicted = fit.predicted(tmp_path / "state.safetensors", 1e9, lambda count, epoch: None)
        assert predicted.shape == (len(data.validation),) and {*predicted.tolist()} <= {0, 1}
        return [(run.has, run.asked) for run in Watched.runs]

    return run


@pytest.mark.parametrize("policy", KINDS, ids=" ".join)
def test_each_image_judges_the_training_that_did_not_have_it(halves: Any, data: Data, policy: Policy) -> None:
    everyone = pictures(data.validation)
    assert len({*everyone}) == len(everyone)
    first, second = halves(policy)
    for had, judged in (first, second):
        assert not {*had} & {*judged} and {*had} | {*judged} == {*everyone} and len(had) == len(judged)
    assert {*first[1]} == {*second[0]} and len(first[1]) + len(second[1]) == len(everyone)


def test_policies_of_all_kinds_are_judged_by_the_same_halves(halves: Any) -> None:
    assert {policy.stage_2 for policy in POLICIES} <= {policy.stage_2 for policy in KINDS} | {"group-dro"}
    found = [halves(policy) for policy in KINDS]
    assert all(one == found[0] for one in found)


def test_halves_share_out_every_group_and_are_others_for_another_seed() -> None:
    groups = np.repeat([0, 1, 2, 3], (10, 5, 1, 1))
    half = half_of(groups, 0)
    sizes = [np.bincount(half[groups == group], minlength=2).tolist() for group in range(4)]
    assert sizes[0] == [5, 5] and sorted(sizes[1]) == [2, 3]
    # Odd images go to either half in turn, so neither is larger by more than one.
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= 1
    assert not np.array_equal(half, half_of(groups, 1)) and np.array_equal(half, half_of(groups, 0))

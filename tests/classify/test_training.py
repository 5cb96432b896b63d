"""Training: reproducible, chosen by validation, and a frozen encoder that stays frozen."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from fairsynth.classify.images import Data, Images
from fairsynth.classify.training import Training, saved_epochs
from tests.support.training import CONFIG, SETTING, WAYS, data, flipped, images, run_of, same, state, train, validated

__all__ = ["data"]


# Before a commit three ways are enough: two that have a state besides the weights, and one of two stages.
QUICK = ("group-dro", "lff", "fairsynth")
EVERY_WAY = [way if way in QUICK else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]


@pytest.mark.parametrize("way", EVERY_WAY)
def test_the_seed_decides_everything(data: Data, way: str) -> None:
    torch.manual_seed(1)
    first = run_of(data, way)
    epochs = list(first.epochs())
    torch.manual_seed(2)
    again, other = run_of(data, way), run_of(data, way, 8)
    same_epochs = list(again.epochs())
    list(other.epochs())
    assert epochs == same_epochs == first.history and [e.number for e in epochs] == list(range(len(epochs)))
    assert np.array_equal(first.probabilities(data.validation), again.probabilities(data.validation))
    assert not np.array_equal(first.probabilities(data.validation), other.probabilities(data.validation))


class Killed(Exception):
    """The machine is gone."""


# Fault case 48: a worker is killed in training.
@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(data: Data, way: str, tmp_path: Path) -> None:
    whole = run_of(data, way)
    epochs = list(whole.epochs())
    for lives in range(1, len(epochs) + 2):
        run = run_of(data, way)
        if run.restore(tmp_path / "state.safetensors"):
            assert run.history == epochs[: lives - 1]
        seen = []
        for epoch in saved_epochs(run, tmp_path / "state.safetensors", 0.0):
            seen.append(epoch)
            if len(seen) == lives and lives <= len(epochs):
                # The epoch is over; its state is written when the next is asked for.
                run.save(tmp_path / "state.safetensors")
                break
    assert seen == epochs and run.best == whole.best
    assert same(state(run.model), state(whole.model))


def test_a_run_killed_in_an_epoch_goes_on_from_the_last_whole_one(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, epochs = train(data, "group-dro", 7)
    run, batches_seen = run_of(data, "group-dro"), 0
    seen = type(run)._seen

    def dies(self: Training, *args: Any) -> torch.Tensor:
        nonlocal batches_seen
        batches_seen += 1
        # In the middle of the second epoch, after the first has used up random numbers and moved the weights.
        if batches_seen == 6:
            raise Killed
        return seen(self, *args)

    monkeypatch.setattr(Training, "_seen", dies)
    with pytest.raises(Killed):
        list(saved_epochs(run, tmp_path / "state.safetensors", 0.0))
    again = run_of(data, "group-dro")
    assert list(saved_epochs(again, tmp_path / "state.safetensors", 0.0)) == epochs
    assert batches_seen == 6 + 8 and same(state(again.model), state(whole.model))


@pytest.mark.parametrize("other", [{"seed": 8}, {"setting": SETTING | {"epochs": 4}}, {"method": "erm"}])
def test_the_state_of_another_run_is_none(data: Data, tmp_path: Path, other: dict[str, Any]) -> None:
    run = run_of(data, "group-dro")
    next(run.epochs())
    run.save(tmp_path / "state")
    arguments = {"method": "group-dro", "setting": SETTING, "data": data, "config": CONFIG, "seed": 7}
    assert Training(**arguments).restore(tmp_path / "state")  # type: ignore[arg-type]
    assert not Training(**arguments | other).restore(tmp_path / "state")  # type: ignore[arg-type]
    assert not run.restore(tmp_path / "none")


def test_training_leaves_the_global_random_numbers_alone(data: Data) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(data, "fairsynth", epochs=1)
    assert torch.equal(torch.rand(4), expected)


def test_probabilities_are_distributions(data: Data) -> None:
    run, _ = train(data, "erm", epochs=1)
    found = run.probabilities(data.train)
    assert found.shape == (60, 2) and found.dtype == np.float32
    assert found.min() >= 0 and found.sum(1) == pytest.approx(1, abs=1e-5)
    # Images do not see each other: normalisation uses what was learnt.
    alone = run.probabilities(Images(data.train.pixels[:1], data.train.labels[:1], data.train.groups[:1]))
    assert alone[0] == pytest.approx(found[0], abs=1e-5)


def test_erm_learns_a_separable_task(data: Data) -> None:
    balanced = Data(images((15,) * 4, 5), data.validation, data.synthetic, 2, 4)
    run, epochs = train(balanced, "erm", epochs=8)
    assert len(epochs) == 8 and epochs[-1].loss < epochs[0].loss
    assert validated(run, data)[1] > 0.9


def test_stage_two_trains_the_linear_layer_and_not_one_bit_of_the_encoder(data: Data) -> None:
    run = Training("fairsynth", SETTING, data, CONFIG, 0)
    untrained, frozen, heads = state(run.model.encoder), None, []
    for epoch in run.epochs():
        if epoch.stage == 1:
            frozen = state(run.model.encoder)
        heads.append(state(run.model.head))
        assert epoch.stage == 1 or (frozen and same(state(run.model.encoder), frozen))
    assert frozen and not same(untrained, frozen)
    assert same(state(run.model.encoder), frozen)
    assert not any(same(one, two) for one, two in itertools.pairwise(heads))


def test_stages_and_what_may_be_chosen(data: Data) -> None:
    _, epochs = train(data, "fairsynth", epochs=2)
    assert [(e.number, e.stage, e.selectable) for e in epochs] == [
        (0, 1, False),
        (1, 1, False),
        (2, 2, True),
        (3, 2, True),
        (4, 2, True),
    ]
    _, epochs = train(data, "erm", epochs=2)
    assert [(e.number, e.stage, e.selectable) for e in epochs] == [(0, 1, True), (1, 1, True)]


@pytest.mark.parametrize("rule", ["worst-group", "worst-class", "accuracy"])
def test_epochs_are_chosen_by_the_rule(data: Data, rule: Any) -> None:
    turned = Data(data.train, flipped(data.validation), data.synthetic, 2, 4)
    run = Training("erm", SETTING | {"epochs": 6.0}, turned, CONFIG, 1, rule)
    epochs = list(run.epochs())
    figure = {"worst-group": "worst_group_accuracy", "worst-class": "worst_class_accuracy"}.get(rule, "accuracy")
    assert run.best is not None and getattr(run.best, figure) == max(getattr(e, figure) for e in epochs)


def test_the_worst_class_is_the_smallest_recall(data: Data) -> None:
    run, _ = train(data, "erm", epochs=2)
    predicted = run.probabilities(data.validation).argmax(1)
    recalls = recall_score(data.validation.labels, predicted, average=None)
    assert run.best is not None and run.best.worst_class_accuracy == pytest.approx(min(recalls))

"""A training that comes to infinite values ends at once, and says so; what it had reached before counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.classify.images import Data
from fairsynth.classify.losses import GroupDRO
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.errors import DataError, DivergedError
from tests.support.training import CONFIG, SETTING, data, run_of, same, state

__all__ = ["data"]


# Fault case 43: losses that are no numbers.
@pytest.mark.parametrize("method", ["erm", "group-dro", "jtt", "lff", "dfr"])
def test_a_learning_rate_that_explodes_ends_the_training_in_its_first_epoch(data: Data, method: str) -> None:
    run = Training(method, SETTING | {"learning_rate": 1e25}, data, CONFIG, 0)
    with pytest.raises(
        DivergedError, match=r"diverged: its \w+ became (nan|infinite) in epoch 1, at learning rate 1e\+25"
    ):
        list(run.epochs())
    assert run.history == [] and isinstance(DivergedError(""), DataError), "a bench notes it and goes on"


def spoilt(monkeypatch: pytest.MonkeyPatch, from_batch: int) -> list[int]:
    """Losses are infinite from this batch on; returns the batches that were seen."""
    seen, whole = list[int](), Training._batch_loss

    def loss(self: Training, *args: Any) -> torch.Tensor:
        seen.append(len(seen))
        value = whole(self, *args)
        return value * torch.inf if len(seen) > from_batch else value

    monkeypatch.setattr(Training, "_batch_loss", loss)
    return seen


def test_an_infinite_loss_of_group_dro_ends_it_at_once_and_the_epochs_before_count(
    data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run_of(data, "group-dro")
    epochs = whole.epochs()
    first, at_first = next(epochs), state(whole.model)
    seen = spoilt(monkeypatch, from_batch=5)  # four batches are an epoch
    run = run_of(data, "group-dro")
    assert list(saved_epochs(run, tmp_path / "state", 0.0)) == [first] and len(seen) == 6
    assert run.diverged == "its loss became infinite in epoch 2, at learning rate 0.003"
    assert run.best == first and same(state(run.model), at_first)
    assert np.isfinite(run.probabilities(data.validation)).all()


def test_what_may_be_chosen_only_at_its_end_reached_nothing(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, from_batch=9)
    with pytest.raises(DivergedError, match=r"^fairsynth diverged: its loss became infinite in epoch 2"):
        list(run_of(data, "mix and learn").epochs())


def test_large_losses_leave_group_dros_weights_numbers() -> None:
    """exp(2000 * 0.1) overflows float32; what is right is the share of each group after renormalising."""
    dro = GroupDRO(3, 0.1, 0.0, np.array([5, 5, 5]))
    loss = dro(torch.tensor([2000.0, 1990.0, 1.0]), torch.tensor([0, 1, 2]))
    first = 1 / (1 + np.exp(-1.0))
    assert dro.q_G.tolist() == pytest.approx([first, 1 - first, 0.0])
    assert loss.item() == pytest.approx(2000 * first + 1990 * (1 - first))


def test_usual_losses_are_weighted_as_before_to_the_bit() -> None:
    dro, losses = GroupDRO(2, 0.1, 1.0, np.array([4, 9])), torch.tensor([0.7, 3.1])
    dro(losses, torch.tensor([0, 1]))
    grown = torch.tensor([0.5, 0.5]) * torch.exp(0.1 * (losses + torch.tensor([1 / 2, 1 / 3])))
    assert torch.equal(dro.q_G, grown / grown.sum())

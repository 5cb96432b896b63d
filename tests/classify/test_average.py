"""The running mean of weights."""

from __future__ import annotations

import pytest
import torch

from fairsynth.classify.average import DECAY, Average


def share(step: int) -> float:
    """How far a step moves the mean: a little more than a tenth of the steps so far remain, then the last 50."""
    return 1 - min(DECAY, (1 + step) / (10 + step))


def test_it_is_the_weighted_sum_of_all_states() -> None:
    states = [torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(600)]
    mean, expected = Average({"w": states[0]}), states[0]
    for step, one in enumerate(states[1:], start=1):
        mean.update({"w": one})
        expected = expected * (1 - share(step)) + share(step) * one
    assert mean.state["w"] == pytest.approx(expected) and share(599) == pytest.approx(1 - DECAY)


def test_what_a_network_began_with_soon_leaves_it() -> None:
    mean = Average({"w": torch.zeros(1)})
    for _ in range(40):
        mean.update({"w": torch.ones(1)})
    assert mean.state["w"].item() > 0.999 > 1 - DECAY**40


def test_it_goes_on_from_what_was_kept() -> None:
    whole, first = Average({"w": torch.zeros(3)}), Average({"w": torch.zeros(3)})
    for step in range(20):
        whole.update({"w": torch.full((3,), float(step))})
        if step < 9:
            first.update({"w": torch.full((3,), float(step))})
    again = Average({"w": torch.ones(3)})
    again.put_back(first.kept())
    for step in range(9, 20):
        again.update({"w": torch.full((3,), float(step))})
    assert torch.equal(again.state["w"], whole.state["w"]) and again.steps == 20


def test_counts_are_taken_as_they_are_and_states_are_not_shared() -> None:
    weight, count = torch.ones(2), torch.tensor(3)
    mean = Average({"w": weight, "n": count})
    weight.add_(1)
    assert mean.state["w"].tolist() == [1, 1]
    mean.update({"w": weight, "n": torch.tensor(7)})
    assert mean.state["n"].item() == 7 and mean.state["w"].tolist() == pytest.approx([1 + share(1)] * 2)

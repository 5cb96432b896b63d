"""The running mean of weights."""

from __future__ import annotations

import pytest
import torch

from fairsynth.classify.average import DECAY, Average


def test_it_is_the_weighted_sum_of_all_states() -> None:
    states = [torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(30)]
    mean = Average({"w": states[0]})
    for one in states[1:]:
        mean.update({"w": one})
    n = len(states) - 1
    expected = DECAY**n * states[0] + sum((1 - DECAY) * DECAY ** (n - i) * states[i] for i in range(1, n + 1))
    assert mean.state["w"] == pytest.approx(expected)


def test_counts_are_taken_as_they_are_and_states_are_not_shared() -> None:
    weight, count = torch.ones(2), torch.tensor(3)
    mean = Average({"w": weight, "n": count})
    weight.add_(1)
    assert mean.state["w"].tolist() == [1, 1]
    mean.update({"w": weight, "n": torch.tensor(7)})
    assert mean.state["n"].item() == 7 and mean.state["w"].tolist() == pytest.approx([1 + (1 - DECAY)] * 2)

"""A training loop of the recipe goes on from what it kept."""

from __future__ import annotations

from pathlib import Path

import torch

from fairsynth.demo.pretrain.training import Average, MuonAndAdamW, Progress


class _Loop:
    """A small network, trained for some steps on batches that depend on the step alone."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 2))
        self.optimizer = MuonAndAdamW(self.model, [self.model[0].weight], 0.05, 0.01)
        self.average, self.progress = Average(self.model), Progress(folder / "state.safetensors", "small", 6)
        self.first = self.progress.resume(self.model, self.average, self.optimizer)

    def train(self, until: int) -> list[torch.Tensor]:
        for step in range(self.first, until):
            batch = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
            self.optimizer.set_rate(1 / (1 + step))
            self.optimizer.zero_grad()
            (self.model(batch) - batch[:, :2]).square().mean().backward()
            self.optimizer.step()
            self.average.update(self.model, step)
        self.progress.save(until - 1, self.model, self.average, self.optimizer)
        averaged = (value for _, value in sorted(self.average.weights.items()))
        return [value.detach().clone() for value in (*self.model.parameters(), *averaged)]


def test_a_training_that_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    whole = _Loop(tmp_path / "whole").train(6)
    _Loop(tmp_path / "halves").train(3)
    second = _Loop(tmp_path / "halves")
    assert second.first == 3
    for one, other in zip(whole, second.train(6), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_muon_and_adamw_change_all_weights_and_have_rates_of_their_own(tmp_path: Path) -> None:
    loop = _Loop(tmp_path)
    before = [value.detach().clone() for value in loop.model.parameters()]
    loop.optimizer.set_rate(0.5)
    assert [part.param_groups[0]["lr"] for part in loop.optimizer.parts] == [0.025, 0.005]
    loop.train(1)
    assert not any(torch.equal(old, new) for old, new in zip(before, loop.model.parameters(), strict=True))

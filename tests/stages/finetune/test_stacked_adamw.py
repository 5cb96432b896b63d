"""The optimizer of many adapters equals torch's own, one for each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from fairsynth.stages.finetune.stacked_adamw import StackedAdamW

PARTS, DECAY, MAX_NORM = (3, 40, 7), 0.05, 1.0
# Two are alike; one has not moved yet; 0 is the first step of a warm-up.
RATES = (1e-2, 3e-3, 1e-2, 0.0, 0.1)


def stacked(count: int, dtype: torch.dtype) -> StackedAdamW:
    """The optimizer of so many adapters before their first step."""
    first, second = torch.zeros(2, count, sum(PARTS), dtype=dtype)
    return StackedAdamW(first, second, torch.zeros(count))


def gradients(step: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Some above the norm at which they are clipped, some below."""
    noise = torch.randn(count, sum(PARTS), generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return (noise * torch.logspace(-2, 1, count, dtype=torch.float64).unsqueeze(1)).to(dtype)


def start(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Weights of so many adapters."""
    return torch.randn(count, sum(PARTS), generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(dtype)


class Solo:
    """One adapter in torch's own optimizer, with a parameter for each of its parts."""

    def __init__(self, row: torch.Tensor) -> None:
        self.parts = [torch.nn.Parameter(part.clone()) for part in row.split(PARTS)]
        self.optimizer = torch.optim.AdamW(self.parts, weight_decay=DECAY)

    def step(self, gradient: torch.Tensor, rate: float) -> float:
        """Clip and step; the norm."""
        for part, piece in zip(self.parts, gradient.split(PARTS), strict=True):
            part.grad = piece.clone()
        norm = torch.nn.utils.clip_grad_norm_(self.parts, MAX_NORM)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return norm.item()

    def weights(self) -> torch.Tensor:
        """As a row."""
        return torch.cat([part.detach() for part in self.parts])


def rates_at(step: int) -> Sequence[float]:
    """Every adapter's rate of a step: some warm up."""
    return [rate * min(1, (step + 1) / (1 + 3 * index)) for index, rate in enumerate(RATES)]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 1e-6)], ids=str)
def test_every_row_equals_torch_adamw_with_clipping(dtype: torch.dtype, limit: float) -> None:
    count = len(RATES)
    weights, ours = start(count, dtype), stacked(count, dtype)
    solos = [Solo(row) for row in weights]
    for step in range(30):
        if step == 12:
            # An adapter begins anew beside others that go on.
            weights[1], solos[1] = start(count, dtype)[0], Solo(start(count, dtype)[0])
            ours.first_NP[1], ours.second_NP[1], ours.steps_N[1] = 0, 0, 0
        found = ours.step(weights, gradients(step, count, dtype), rates_at(step), DECAY, MAX_NORM)
        pieces = zip(solos, gradients(step, count, dtype), rates_at(step), strict=True)
        assert found.tolist() == pytest.approx([solo.step(*rest) for solo, *rest in pieces], rel=limit)
        expected = torch.stack([solo.weights() for solo in solos])
        torch.testing.assert_close(weights, expected, rtol=limit, atol=limit)
    assert ours.steps_N.tolist() == [30, 18, 30, 30, 30]
    moved = (weights - start(count, dtype)).abs().amax(1) > 1e-3
    assert moved.tolist() == [True, True, True, False, True]
    assert torch.equal(weights[3], start(count, dtype)[3]), "a rate of zero moves nothing"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_disturbs_no_other(dtype: torch.dtype, bad: float) -> None:
    count, rates = 4, (1e-2, 1e-2, 1e-2, 3e-3)
    disturbed, calm = (start(count, dtype), stacked(count, dtype)), (start(count, dtype), stacked(count, dtype))
    for step in range(5):
        fine, broken = gradients(step, count, dtype), gradients(step, count, dtype)
        broken[1, 4] = bad
        expected = calm[1].step(calm[0], fine, rates, DECAY, MAX_NORM)
        norms = disturbed[1].step(disturbed[0], broken, rates, DECAY, MAX_NORM)
        assert torch.isfinite(norms).tolist() == [True, False, True, True]
        assert torch.equal(norms[[0, 2, 3]], expected[[0, 2, 3]])
    for row in (0, 2, 3):
        assert torch.equal(disturbed[0][row], calm[0][row])
        assert torch.equal(disturbed[1].first_NP[row], calm[1].first_NP[row])
    assert not torch.isfinite(disturbed[0][1]).all(), "it must show in the weights"


def test_the_gradient_is_clipped_in_place_and_the_norm_is_from_before() -> None:
    gradient = gradients(0, 5, torch.float64)
    before = torch.linalg.vector_norm(gradient, dim=1)
    norms = stacked(5, torch.float64).step(start(5, torch.float64), gradient, RATES, DECAY, MAX_NORM)
    assert torch.equal(norms, before) and before.min() < MAX_NORM < before.max()
    assert torch.linalg.vector_norm(gradient, dim=1).tolist() == pytest.approx(before.clamp(max=MAX_NORM), rel=1e-5)

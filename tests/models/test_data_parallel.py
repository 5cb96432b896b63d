"""Data-parallel processes do what one does: here as threads whose sums wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fairsynth.classify.styles import exchanged
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.errors import InfrastructureError
from fairsynth.models.classifier import build_classifier
from fairsynth.models.data_parallel import Ranks, SharedBatchNorm, share_norms
from tests.support.training import CONFIG, SETTING, data, state

__all__ = ["data"]


class Sums:
    """All-reduce of threads."""

    def __init__(self, world: int) -> None:
        self.world, self.barrier = world, threading.Barrier(world, timeout=60)
        self.values: list[torch.Tensor] = [torch.zeros(0)] * world

    def ranks(self, rank: int) -> Ranks:
        def summed(values: torch.Tensor) -> None:
            self.values[rank] = values.clone()
            self.barrier.wait()
            total = torch.stack(self.values).sum(0)
            self.barrier.wait()
            values.copy_(total)

        return Ranks(rank, self.world, summed)


def in_parallel(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What the work returns in each of ``world`` threads."""
    sums, found = Sums(world), [None] * world
    failures: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            found[rank] = work(sums.ranks(rank))
        except BaseException as error:
            failures.append(error)
            sums.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise next((e for e in failures if not isinstance(e, threading.BrokenBarrierError)), failures[0])
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [7, 2])
def test_rows_come_in_the_batchs_order_and_own_rows_have_the_gradient(world: int, n: int) -> None:
    whole = torch.arange(2.0 * n).reshape(n, 2)
    weights = torch.linspace(1, 2, n)[:, None]

    def work(ranks: Ranks) -> tuple[torch.Tensor, torch.Tensor]:
        own = whole[ranks.part].clone().requires_grad_()
        joined = ranks.joined(own, n)
        (joined.square() * weights).sum().backward()
        assert own.grad is not None
        return joined.detach(), own.grad

    for rank, (joined, gradient) in enumerate(in_parallel(world, work)):
        assert torch.equal(joined, whole)
        assert torch.allclose(gradient, (2 * whole * weights)[rank::world])


def test_normalisation_is_over_all_images_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    images, weights = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    plain = nn.BatchNorm2d(3)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        plain.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    whole = images.clone().requires_grad_()
    (plain(whole) * weights).sum().backward()
    assert whole.grad is not None and plain.weight.grad is not None and plain.bias.grad is not None

    def work(ranks: Ranks) -> Any:
        network = nn.Sequential(nn.BatchNorm2d(3))
        network[0].load_state_dict(start)
        share_norms(network, ranks)
        assert isinstance(network[0], SharedBatchNorm) and list(network.state_dict()) == [f"0.{name}" for name in start]
        own = images[ranks.part].clone().requires_grad_()
        (network(own) * weights[ranks.part]).sum().backward()
        ranks.sum_gradients(network.parameters())
        return own.grad, network[0]

    for rank, (gradient, norm) in enumerate(in_parallel(2, work)):
        assert torch.allclose(gradient, whole.grad[rank::2], atol=1e-5)
        assert torch.allclose(norm.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)
        assert torch.allclose(norm.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-5)
        assert torch.allclose(norm.running_mean, plain.running_mean, atol=1e-6)
        assert torch.allclose(norm.running_var, plain.running_var, atol=1e-6)
        images_out = norm.eval()(images)
        assert torch.allclose(images_out, plain.eval()(images), atol=1e-5)


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    images = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0)) + 3000
    expected = nn.BatchNorm2d(2)(images.double().float())

    def work(ranks: Ranks) -> torch.Tensor:
        network = nn.Sequential(nn.BatchNorm2d(2))
        share_norms(network, ranks)
        return network(images[ranks.part]).detach()

    for rank, found in enumerate(in_parallel(2, work)):
        assert torch.allclose(found, expected[rank::2].detach(), atol=5e-3)


@pytest.fixture
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are made one by one: torch's random state is one for all threads."""
    lock, untrained = threading.Lock(), Training._untrained

    def locked(run: Training, seed: int) -> Any:
        with lock:
            return untrained(run, seed)

    monkeypatch.setattr(Training, "_untrained", locked)


@pytest.mark.slow
@pytest.mark.usefixtures("one_after_the_other")
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("method", ["erm", "reweight", "group-dro", "lff", "lisa", "dfr", "afr", "fairsynth"])
def test_data_parallel_training_is_training_alone(data: Any, method: str, world: int, tmp_path: Path) -> None:
    """Beyond rounding: after a few steps, for Adam magnifies it."""
    setting = SETTING | {"epochs": 1.0}
    config = CONFIG.model_copy(update={"finetune_epochs": 1, "flip": True})
    alone = Training(method, setting, data, config, 3)
    first = next(iter(alone.epochs()))
    weights = state(alone.model)

    def work(ranks: Ranks) -> Training:
        run = Training(method, setting, data, config, 3, ranks=ranks)
        next(iter(run.epochs()))
        run.save(tmp_path / f"{ranks.rank}")
        return run

    runs = in_parallel(world, work)
    for run in runs:
        assert run.history[0].loss == pytest.approx(first.loss, rel=1e-2)
        assert all(torch.equal(value, state(runs[0].model)[name]) for name, value in state(run.model).items())
    # Four steps of at most 3e-3 each: weights moved by up to 0.012, a few of them, of hardly any gradient, either way.
    differences = [
        float((state(runs[0].model)[name].float() - value.float()).abs().max()) for name, value in weights.items()
    ]
    assert max(differences) < 0.025 and float(np.median(differences)) < 2e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]  # the first one writes


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("n", [7, 2])
def test_images_exchange_styles_as_in_one_process(world: int, n: int) -> None:
    images = torch.rand((n, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    # Not in the threads: random weights come from one generator.
    models = [build_classifier(CONFIG, 2, 0).eval() for _ in range(world)]

    def maps(ranks: Ranks) -> torch.Tensor:
        model = models[ranks.rank]
        with exchanged(model, n, ranks, torch.Generator().manual_seed(3)):
            return model.encoder.embedder(images[ranks.part]).detach()  # type: ignore[no-any-return]

    (alone,) = in_parallel(1, maps)
    assert n == 2 or not torch.allclose(alone, models[0].encoder.embedder(images), atol=1e-2)
    for rank, found in enumerate(in_parallel(world, maps)):
        assert torch.allclose(found, alone[rank::world], atol=1e-5)


@pytest.mark.usefixtures("one_after_the_other")
@pytest.mark.parametrize("method", ["erm", "reweight", "group-dro", "lff", "lisa", "fairsynth"])
@pytest.mark.parametrize("change", ["light", "styles"])
def test_the_first_gradients_are_those_of_one_process(data: Any, method: str, change: str) -> None:
    config = CONFIG.model_copy(update={"augmentation": change})

    def gradients(ranks: Ranks) -> dict[str, torch.Tensor]:
        run = Training(method, SETTING, data, config, 3, ranks=ranks)
        loop = run._entered(run.phases[0])
        run.rng.manual_seed(3)  # by which styles are exchanged
        with loop.as_seen(7, ranks, run.rng):
            loss = run._batch_loss(loop, np.array([0, 30, 40, 26, 3, 31, 47]))
        loss.backward()
        found = {"loss": loss.detach()}
        for number, network in enumerate(loop.networks):
            run.ranks.sum_gradients(network.encoder.parameters())
            found |= {f"{number} {n}": p.grad for n, p in network.named_parameters() if p.grad is not None}
        assert (loop.dro is not None) == (method == "group-dro") and len(loop.networks) == 1 + (method == "lff")
        found |= {"q": loop.dro.q_G} if loop.dro else {}
        return found | (loop.special.state() if loop.special else {})

    (alone,) = in_parallel(1, gradients)
    for found in in_parallel(2, gradients) + in_parallel(3, gradients):
        assert found.keys() == alone.keys() and len(found) > 20
        for name, value in alone.items():
            assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=1e-5), name


def test_processes_that_see_other_checkpoints_do_not_go_on(data: Any, tmp_path: Path) -> None:
    run = Training("erm", SETTING, data, CONFIG, 3)
    for _ in saved_epochs(run, tmp_path / "state", 0.0):
        break
    run.save(tmp_path / "state")
    trainings = [Training("erm", SETTING, data, CONFIG, 3) for _ in range(2)]

    def work(ranks: Ranks) -> bool:
        training = trainings[ranks.rank]
        training.ranks = ranks
        return training.restore(tmp_path / ("state" if ranks.first else "nothing"))

    with pytest.raises(InfrastructureError, match="not the same for all that train together"):
        in_parallel(2, work)

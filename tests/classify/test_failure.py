"""LfF: the loss that prefers the easy, and the weight of what it fails on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fairsynth.classify.failure import Difficulty, Failure, generalised_cross_entropy
from fairsynth.classify.images import Data, Images
from fairsynth.classify.training import Training
from tests.support.training import CONFIG, SETTING, data, run_of, same, state

__all__ = ["data"]
LOGITS, LABELS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)) * 2), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_generalised_cross_entropy_is_its_formula(q: float) -> None:
    found = generalised_cross_entropy(LOGITS, LABELS, q)
    for logits, label, loss in zip(LOGITS.tolist(), LABELS.tolist(), found.tolist(), strict=True):
        p = math.exp(logits[label]) / sum(math.exp(v) for v in logits)
        assert loss == pytest.approx((1 - p**q) / q, rel=1e-9)


def test_its_gradient_is_that_of_cross_entropy_times_p_to_the_q() -> None:
    # Section 3.1 of the paper: what the network is already sure of counts most.
    logits = LOGITS.clone().requires_grad_()
    generalised_cross_entropy(logits, LABELS, 0.7).sum().backward()
    p = LOGITS.softmax(1).numpy()
    of_label = p[np.arange(6), LABELS]
    expected = of_label[:, None] ** 0.7 * (p - np.eye(3)[LABELS])
    assert logits.grad is not None and logits.grad.numpy() == pytest.approx(expected, rel=1e-9)


def test_a_hopeless_image_has_a_finite_gradient() -> None:
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = generalised_cross_entropy(logits, torch.tensor([0]), 0.7).sum()
    loss.backward()
    assert loss.item() == pytest.approx(1 / 0.7) and logits.grad is not None and bool(logits.grad.isfinite().all())


def test_weights_follow_the_paper_batch_by_batch() -> None:
    rng, labels = np.random.default_rng(0), np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    difficulty = Difficulty(labels, 3, torch.device("cpu"))
    means: dict[str, dict[int, float]] = {"biased": {}, "own": {}}
    for _ in range(12):
        index = rng.permutation(len(labels))[:5]
        losses = {name: rng.exponential(1.0 + (name == "own"), 5) for name in means}
        found = difficulty.weights(torch.from_numpy(index), *(torch.from_numpy(v).float() for v in losses.values()))
        for name, of in means.items():
            for place, loss in zip(index.tolist(), losses[name], strict=True):
                # The first loss stands as it is; later ones have 0.3 of the mean.
                of[place] = 0.7 * of[place] + 0.3 * loss if place in of else loss
        for place, weight in zip(index.tolist(), found.tolist(), strict=True):
            relative = {
                name: of[place] / max(loss for i, loss in of.items() if labels[i] == labels[place])
                for name, of in means.items()
            }
            assert weight == pytest.approx(relative["biased"] / (relative["biased"] + relative["own"]), rel=1e-4)
    assert len(means["own"]) == len(labels)


def test_what_only_the_biased_network_fails_on_weighs_most() -> None:
    difficulty = Difficulty(np.array([0, 0, 0]), 1, torch.device("cpu"))
    weights = difficulty.weights(torch.arange(3), torch.tensor([3.0, 0.3, 0.3]), torch.tensor([0.3, 0.3, 3.0]))
    # Relative to the largest losses of the label: 1 and 0.1, 0.1 and 0.1, 0.1 and 1.
    assert weights.tolist() == pytest.approx([1 / 1.1, 0.5, 0.1 / 1.1], rel=1e-4)


def test_losses_are_compared_within_a_label() -> None:
    difficulty = Difficulty(np.array([0, 1]), 2, torch.device("cpu"))
    weights = difficulty.weights(torch.arange(2), torch.tensor([9.0, 0.1]), torch.tensor([1.0, 1.0]))
    assert weights.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


def test_images_without_loss_weigh_nothing() -> None:
    difficulty = Difficulty(np.array([0, 0]), 1, torch.device("cpu"))
    assert difficulty.weights(torch.arange(2), torch.zeros(2), torch.zeros(2)).tolist() == [0, 0]


def test_each_network_learns_by_its_own_loss_alone(data: Data) -> None:
    run = Training("lff", SETTING, data, CONFIG.model_copy(update={"augment": False}), 3)
    loop, index = run._entered(run.phases[0]), np.array([0, 25, 30, 59])
    special = loop.special
    assert isinstance(special, Failure) and loop.networks == (run.model, special.biased)
    assert not same(state(run.model), state(special.biased))
    trained = {id(p) for group in loop.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for network in loop.networks for p in network.parameters()}
    special(index).backward()
    labels = torch.from_numpy(data.train.labels[index])
    logits, biased = (network(run._seen(data.train, index)) for network in (run.model, special.biased))
    ce, hard = (torch.nn.functional.cross_entropy(v, labels, reduction="none") for v in (logits, biased))
    # First losses, each over the largest of its label in this batch.
    relative = [
        torch.stack(
            [
                v / max(w for w, k in zip(of, labels, strict=True) if k == label)
                for v, label in zip(of, labels, strict=True)
            ]
        )
        for of in (hard.detach(), ce.detach())
    ]
    alone = (relative[0] / (relative[0] + relative[1]) * ce).mean()
    easy = ((1 - biased.softmax(1)[torch.arange(4), labels] ** 0.7) / 0.7).mean()
    for network, loss in ((run.model, alone), (special.biased, easy)):
        weights = [network.head.weight, next(network.encoder.parameters())]
        expected = torch.autograd.grad(loss, weights)
        assert all(w.grad is not None for w in weights)
        for weight, gradient in zip(weights, expected, strict=True):
            assert weight.grad is not None and torch.allclose(weight.grad, gradient, rtol=1e-3, atol=1e-6)


def test_a_state_holds_the_biased_network_and_the_losses(data: Data) -> None:
    run, other = run_of(data, "lff"), run_of(data, "lff", 8)
    next(run.epochs())
    assert run._loop is not None and run._loop.special is not None
    kept = {name: value.clone() for name, value in run._loop.special.state().items()}
    assert bool(kept["known"].all()) and kept["means"].shape == (2, 60) and float(kept["means"].min()) > 0
    special = other._entered(other.phases[0]).special
    assert special is not None and not same(special.state(), kept)
    special.put_back(kept)
    assert same(special.state(), kept)


@pytest.mark.parametrize("method", ["lff", "afr"])
def test_attributes_of_training_images_are_not_needed(data: Data, method: str) -> None:
    train = data.train
    # Two groups that say nothing but the label.
    blind = Data(Images(train.pixels, train.labels, 2 * train.labels), data.validation, data.synthetic, 2, 4)
    runs = [Training(method, SETTING, world, CONFIG, 5) for world in (data, blind)]
    histories = [list(run.epochs()) for run in runs]
    assert histories[0] == histories[1] and same(*(state(run.model) for run in runs))

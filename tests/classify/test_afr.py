"""AFR: which images are held out, what they weigh, and where the linear layer goes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fairsynth.classify.afr import image_weights, layers, softmax, split
from fairsynth.classify.dfr import Labelled, Linear
from fairsynth.classify.images import Data, learnt
from fairsynth.errors import DataError
from tests.support.training import CONFIG, SETTING, data, run_of, same, state, train

__all__ = ["data"]


@pytest.mark.parametrize(("n", "held_out"), [(100, 20), (7, 1), (2, 1), (13, 3)])
def test_a_fifth_of_the_images_is_held_out(n: int, held_out: int) -> None:
    most, rest = split(n, np.random.default_rng(0))
    assert sorted([*most, *rest]) == list(range(n)) and len(rest) == held_out
    assert (np.diff(most) > 0).all() and (np.diff(rest) > 0).all()


def test_the_seed_decides_which() -> None:
    held_out = {tuple(split(50, np.random.default_rng(seed))[1]) for seed in (0, 0, 1, 2)}
    assert len(held_out) == 3
    with pytest.raises(DataError, match="AFR needs two training images"):
        split(1, np.random.default_rng(0))


@pytest.mark.parametrize("gamma", [0.0, 1.8, 14.0])
def test_weights_are_equation_2(gamma: float) -> None:
    rng, labels = np.random.default_rng(0), np.array([0, 0, 0, 0, 0, 1, 1, 2])
    probabilities = rng.dirichlet([1, 1, 1], 8)
    found = image_weights(probabilities, labels, gamma)
    counts = {0: 5, 1: 2, 2: 1}
    raw = [math.exp(-gamma * p[y]) / counts[y] for p, y in zip(probabilities, labels.tolist(), strict=True)]
    assert found.tolist() == pytest.approx([w / sum(raw) for w in raw], rel=1e-12)
    assert found.sum() == pytest.approx(1)


def test_labels_weigh_alike_where_erm_is_equally_sure_of_all_images() -> None:
    labels = np.array([0] * 30 + [1] * 3)
    weights = image_weights(np.full((33, 2), 0.5), labels, 4.0)
    assert weights[labels == 0].sum() == pytest.approx(0.5) and weights[labels == 1].sum() == pytest.approx(0.5)
    # Of one label, an image of probability 0.1 weighs exp(4 * 0.8) times as much as one of 0.9.
    two = image_weights(np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([0, 0]), 4.0)
    assert two[0] / two[1] == pytest.approx(math.exp(3.2))


def rows(scale: float = 1.0, seed: int = 0) -> tuple[Labelled, Linear]:
    """Features of 40 images of three labels, and a linear layer that is somewhat right."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], (20, 15, 5))
    features = rng.normal(size=(40, 4)) * scale
    features[np.arange(40), labels] += scale
    return Labelled(features.astype(np.float32), labels, labels), Linear(rng.normal(size=(3, 4)), rng.normal(size=3))


def objective(layer: np.ndarray, of: Labelled, erm: Linear, gamma: float, pull: float) -> float:
    """What the paper minimises: sum of mu_i l_i, and lambda times the squared distance to ERM's layer."""

    def log_p(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        logits = of.features_ND.astype(float) @ weight.T + bias
        of_label = logits[np.arange(len(logits)), of.labels_N]
        return of_label - np.log(np.exp(logits - logits.max(1)[:, None]).sum(1)) - logits.max(1)

    raw = np.exp(-gamma * np.exp(log_p(*erm))) / np.array([(of.labels_N == y).sum() for y in of.labels_N])
    weight, bias = layer[:, :-1], layer[:, -1]
    distance = ((weight - erm.weight_KD) ** 2).sum() + ((bias - erm.bias_K) ** 2).sum()
    return float(-(raw / raw.sum() * log_p(weight, bias)).sum() + pull * distance)


def joined(layer: Linear) -> np.ndarray:
    return np.hstack([layer.weight_KD, layer.bias_K[:, None]])


@pytest.mark.parametrize("gamma", [0.0, 4.0])
def test_the_layer_comes_to_the_optimum(gamma: float) -> None:
    of, erm = rows()
    *_, last = layers(of, erm, gamma, 0.4, 5)
    best = minimize(lambda v: objective(v.reshape(3, 5), of, erm, gamma, 0.4), np.zeros(15), tol=1e-10)
    assert joined(last) == pytest.approx(best.x.reshape(3, 5), abs=2e-3)


def test_steps_are_those_of_gradient_descent_at_the_authors_rate() -> None:
    of, erm = rows(0.3)
    found = layers(of, erm, 4.0, 0.1, 500)  # one step of 0.02 each
    weight, bias = (torch.from_numpy(v.copy()).requires_grad_() for v in erm)
    x, y = torch.from_numpy(of.features_ND).double(), torch.from_numpy(of.labels_N)
    mu = torch.from_numpy(image_weights(softmax(of.features_ND @ erm.weight_KD.T + erm.bias_K), of.labels_N, 4.0))
    descent = torch.optim.SGD([weight, bias], 0.02)
    for _ in range(5):
        ce = torch.nn.functional.cross_entropy(x @ weight.T + bias, y, reduction="none")
        distance = sum((v - torch.from_numpy(w)).square().sum() for v, w in zip((weight, bias), erm, strict=True))
        descent.zero_grad()
        ((mu * ce).sum() + 0.1 * distance).backward()
        descent.step()
        layer = next(found)
        assert layer.weight_KD == pytest.approx(weight.detach().numpy(), rel=1e-9)
        assert layer.bias_K == pytest.approx(bias.detach().numpy(), rel=1e-9)


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_every_look_is_lower_than_the_one_before_however_large_the_features(scale: float) -> None:
    of, erm = rows(scale)
    start = Linear(erm.weight_KD / scale, erm.bias_K)
    values = [objective(joined(one), of, start, 4.0, 0.1) for one in (start, *layers(of, start, 4.0, 0.1, 6))]
    assert len(values) == 7 and all(later < before for before, later in itertools.pairwise(values))


def test_lambda_holds_the_layer_near_erms() -> None:
    of, erm = rows()
    ends = [[*layers(of, erm, 4.0, pull, 3)][-1] for pull in (0.0, 0.1, 0.4)]
    distances = [np.abs(joined(end) - joined(erm)).max() for end in ends]
    assert distances[0] > distances[1] > distances[2] > 0


def test_erm_learns_from_four_fifths_and_the_layer_from_the_rest(data: Data) -> None:
    run = run_of(data, "afr")
    most, rest = (learnt(phase, data, run.seed) for phase in run.phases)
    assert (len(most), len(rest)) == (48, 12)
    seen = [images.pixels[np.arange(len(images))] for images in (most, rest)]
    assert sorted(np.concatenate(seen).reshape(60, -1).tolist()) == sorted(
        data.train.pixels[:60].reshape(60, -1).tolist()
    )
    alone, plain = train(Data(most, data.validation, data.synthetic, 2, 4), "erm", 7)
    epochs = list(run.epochs())
    assert [e.loss for e in epochs[:3]] == [e.loss for e in plain]
    assert [(e.stage, e.selectable) for e in epochs] == [(1, False)] * 3 + [(2, True)]
    assert len(alone.phases) == 1


def test_the_head_is_a_layer_that_validation_was_asked_about(data: Data) -> None:
    run = run_of(data, "afr")
    for epoch in run.epochs():
        if epoch.number == 2:
            erm = Linear(*(v.detach().double().numpy() for v in (run.model.head.weight, run.model.head.bias)))
            rest = run._labelled(learnt(run.phases[1], data, run.seed))
    on_the_way = list(layers(rest, erm, SETTING["gamma"], SETTING["lambda"], CONFIG.finetune_epochs))
    weights = [layer.weight_KD.astype(np.float32) for layer in on_the_way]
    found = run.model.head.weight.detach().numpy()
    assert len(weights) == 3 and [np.allclose(found, w, atol=1e-6) for w in weights].count(True) == 1


def test_the_encoder_stays_that_of_erm(data: Data) -> None:
    run, encoders = run_of(data, "afr"), []
    for _ in run.epochs():
        encoders.append(state(run.model.encoder))
    assert same(encoders[2], encoders[3]) and not same(encoders[1], encoders[2])

"""Losses against slow loops over their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fairsynth.classify.losses import GroupDRO, bounded, exponents, feature_loss, group_weights, supcon


def slow_supcon(features: np.ndarray, labels: list[int], temperature: float) -> float:
    """L_out of arXiv 2004.11362, eq. 2, anchor by anchor; anchors without positives are left out."""
    z = features / np.linalg.norm(features, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        if positives:
            losses.append(
                -sum(math.log(math.exp(z[i] @ z[p] / temperature) / below) for p in positives) / len(positives)
            )
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 4], [1, 1, 1, 1, 1, 1], [0, 0, 5, 5, 5, 9]]
)
def test_supcon_is_the_formula(labels: list[int], temperature: float) -> None:
    features = np.random.default_rng(len(set(labels))).normal(size=(6, 8)) * 3
    found = supcon(torch.from_numpy(features), torch.tensor(labels), temperature)
    assert found.item() == pytest.approx(slow_supcon(features, labels, temperature), rel=1e-9)


def test_anchors_without_a_positive_are_left_out_of_the_mean() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # Anchors 0 and 1: positive at similarity 1, one negative at 0. Anchor 2 has none and does not count as 0.
    expected = -math.log(math.e / (math.e + 1))
    assert supcon(features, torch.tensor([0, 0, 1]), 1.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2]])
def test_a_batch_without_positives_gives_zero_and_a_gradient(labels: list[int]) -> None:
    features = torch.eye(len(labels), 4, requires_grad=True)
    loss = supcon(features, torch.tensor(labels), 0.1)
    loss.backward()
    assert loss.item() == 0 and features.grad is not None and features.grad.abs().max() == 0


def test_supcon_ignores_the_length_of_features_and_the_order_of_rows() -> None:
    features, labels = torch.from_numpy(np.random.default_rng(1).normal(size=(10, 5))), torch.arange(10) % 3
    loss = supcon(features, labels, 0.1)
    scaled = supcon(features * torch.linspace(0.1, 50, 10, dtype=torch.float64)[:, None], labels, 0.1)
    order = torch.tensor([3, 9, 0, 1, 7, 2, 8, 4, 6, 5])
    assert scaled.item() == pytest.approx(loss.item()) and supcon(
        features[order], labels[order], 0.1
    ).item() == pytest.approx(loss.item())


def test_supcon_has_the_gradient_of_its_values() -> None:
    features = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 3))).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda f: supcon(f, labels, 0.5), features)


def batches(n: int = 50) -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses and groups of some batches; group 3 is rare."""
    rng = np.random.default_rng(0)
    return [(rng.exponential(2, 12), rng.choice(4, 12, p=[0.5, 0.3, 0.19, 0.01])) for _ in range(n)]


COUNTS = np.array([500, 300, 190, 10])


@pytest.mark.parametrize("adjustment", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("step_size", [0.01, 0.1, 1.0])
def test_group_dro_weights_follow_the_algorithm(step_size: float, adjustment: float) -> None:
    dro, q = GroupDRO(4, step_size, adjustment, COUNTS), [0.25] * 4
    for losses, groups in batches():
        found = dro(torch.from_numpy(losses), torch.from_numpy(groups)).item()
        # arXiv 1911.08731, algorithm 1: weights first, then the weighted sum; an absent group's loss is 0.
        means = [float(losses[groups == g].mean()) if (groups == g).any() else 0.0 for g in range(4)]
        # Section 3.3: what is compared is the loss plus C / sqrt(n_g); what is descended is the loss.
        raised = [mean + adjustment / math.sqrt(n) for mean, n in zip(means, COUNTS, strict=True)]
        q = [weight * math.exp(step_size * mean) for weight, mean in zip(q, raised, strict=True)]
        q = [weight / sum(q) for weight in q]
        assert found == pytest.approx(sum(w * m for w, m in zip(q, means, strict=True)), rel=1e-5)
        assert dro.q_G.tolist() == pytest.approx(q, rel=1e-4)
    assert any((groups != 3).all() for _, groups in batches())


def test_a_group_without_training_images_is_not_adjusted() -> None:
    dro = GroupDRO(2, 1.0, 3.0, np.array([9, 0]))
    dro(torch.tensor([1.0]), torch.tensor([0]))
    q = math.exp(1 + 3 / 3) / (math.exp(1 + 3 / 3) + 1)
    assert dro.q_G.tolist() == pytest.approx([q, 1 - q])


def test_an_absent_group_has_loss_zero_and_loses_weight() -> None:
    dro = GroupDRO(2, 0.5, 0.0, COUNTS[:2])
    loss = dro(torch.tensor([2.0, 4.0]), torch.tensor([0, 0]))
    q = math.exp(0.5 * 3) / (math.exp(0.5 * 3) + 1)
    assert dro.q_G.tolist() == pytest.approx([q, 1 - q]) and loss.item() == pytest.approx(q * 3)


def test_group_dro_weights_carry_no_gradient() -> None:
    losses = torch.tensor([1.0, 3.0, 5.0], requires_grad=True)
    dro = GroupDRO(2, 1.0, 0.0, COUNTS[:2])
    dro(losses, torch.tensor([0, 1, 1])).backward()
    q = dro.q_G.tolist()
    assert not dro.q_G.requires_grad and losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([q[0], q[1] / 2, q[1] / 2])


def test_equal_losses_keep_the_weights_uniform() -> None:
    dro = GroupDRO(3, 0.1, 0.0, COUNTS[:3])
    for _ in range(10):
        assert dro(torch.full((6,), 1.5), torch.arange(6) % 3).item() == pytest.approx(1.5)
    assert dro.q_G.tolist() == pytest.approx([1 / 3] * 3)


def test_reweights_weights_go_with_one_over_n_and_add_up_to_the_groups() -> None:
    weights = group_weights(np.repeat(np.arange(3), (60, 30, 10)), 3)
    # 1/60 : 1/30 : 1/10 is 1 : 2 : 6, and the sum is 3.
    assert weights.tolist() == pytest.approx([3 / 9, 6 / 9, 18 / 9])


def test_groups_that_are_absent_have_no_weight() -> None:
    assert group_weights(np.array([0, 0, 2]), 4).tolist() == pytest.approx([2 / 3, 0, 4 / 3, 0])


def test_the_bounded_loss_is_the_formula() -> None:
    p, q = np.array([0.9, 0.5, 0.01, 0.2]), np.array([0.7, 0.7, 0.7, 0.3])
    found = bounded(torch.from_numpy(-np.log(p)), torch.from_numpy(q))
    assert found.tolist() == pytest.approx([(1 - a**b) / b for a, b in zip(p, q, strict=True)])
    assert found.max() < 1 / 0.3, "it is bounded by 1 / q"


def test_with_a_small_exponent_it_is_cross_entropy_and_else_a_hopeless_image_has_little_gradient() -> None:
    ce = torch.tensor([0.1, 2.0, 12.0], requires_grad=True)
    assert bounded(ce, torch.full((3,), 1e-3)).tolist() == pytest.approx(ce.tolist(), rel=0.01)
    bounded(ce, torch.full((3,), 0.7)).sum().backward()
    assert ce.grad is not None
    # By cross-entropy each has a gradient of 1.
    assert ce.grad.tolist() == pytest.approx([math.exp(-0.7 * x) for x in (0.1, 2.0, 12.0)], rel=1e-3)
    assert ce.grad[2] < 0.001


def test_small_groups_have_a_small_exponent_and_absent_ones_harm_nobody() -> None:
    found = exponents(group_weights(np.repeat([0, 1, 3], (300, 292, 8)), 4), 2)
    assert found.tolist() == pytest.approx([0.7, 0.7, 7e-4, 0.7 * 8 / 200])
    alike = exponents(group_weights(np.repeat(np.arange(4), 50), 4), 2)
    assert alike.tolist() == pytest.approx([0.7] * 4)


@pytest.mark.parametrize("n_labels", [2, 4, 100])
def test_a_network_that_knows_nothing_learns_as_much_however_many_labels_there_are(n_labels: int) -> None:
    (q,) = exponents(group_weights(np.zeros(10, np.int64), 1), n_labels)
    ce = torch.tensor(math.log(n_labels), requires_grad=True)
    bounded(ce, q).backward()
    assert ce.grad is not None and ce.grad.item() == pytest.approx(2**-0.7, rel=1e-5)


def test_each_image_has_its_groups_exponent() -> None:
    head = torch.nn.Linear(3, 2)
    features, labels, groups = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([0, 0, 0, 0, 1, 1])
    weights = group_weights(np.repeat([0, 1], (90, 10)), 2)
    found = feature_loss("bounded", head, {}, weights, None)(features, labels, groups)
    p = head(features).softmax(1)[torch.arange(6), labels].tolist()
    q = [0.7, 0.7, 0.7, 0.7, 0.14, 0.14]
    assert found.item() == pytest.approx(sum((1 - a**b) / b for a, b in zip(p, q, strict=True)) / 6, rel=1e-5)

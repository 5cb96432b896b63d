"""LISA: who is mixed with whom, in which shares, and what is learnt from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.classify.batch_loss import BatchLoss
from fairsynth.classify.images import Data, normalised, to_tensor
from fairsynth.classify.mixing import Mates, Selective, beta_2_2, blends, fitting, mixed, mixed_cross_entropy, patches
from fairsynth.classify.training import Training
from tests.support.training import CONFIG, SETTING, data

__all__ = ["data"]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n_labels", "n_attributes"), [(2, 2), (3, 2), (2, 4)])
@pytest.mark.parametrize("within_label", [True, False])
def test_mates_share_the_label_or_the_attribute_and_never_both(
    n_labels: int, n_attributes: int, within_label: bool
) -> None:
    n_groups = n_labels * n_attributes
    groups = np.repeat(np.arange(n_groups), np.arange(3, 3 + 5 * n_groups, 5))
    labels, attributes = groups // n_attributes, groups % n_attributes
    index = np.arange(len(groups))
    for seed in range(20):
        mates = Mates(groups, n_labels, n_attributes).draw(index, within_label, random(seed))
        same_label, same_attribute = labels[mates] == labels, attributes[mates] == attributes
        assert same_label.all() == within_label and same_attribute.all() == (not within_label)
        assert not (same_label & same_attribute).any() and (same_label | same_attribute).all()
    together = fitting(n_labels, n_attributes, True) | fitting(n_labels, n_attributes, False)
    assert together.sum() == n_groups * (n_labels + n_attributes - 2)


def test_mates_come_evenly_from_the_groups_that_fit_and_from_the_images_of_a_group() -> None:
    # Label 0 has three attributes; its second group is ten times as large as its third.
    groups = np.repeat([0, 1, 2, 3], (4, 50, 5, 9))
    drawn = Mates(groups, 2, 3).draw(np.zeros(6000, np.int64), True, random())
    assert set(groups[drawn].tolist()) == {1, 2}
    assert (groups[drawn] == 1).mean() == pytest.approx(0.5, abs=0.03)
    of_the_small = np.bincount(drawn[groups[drawn] == 2], minlength=68)[54:59]
    assert of_the_small.min() > 500 and of_the_small.max() < 700
    first, second = (Mates(groups, 2, 3).draw(np.zeros(9, np.int64), True, random(seed)) for seed in (1, 2))
    assert first.tolist() != second.tolist()


def test_an_image_without_mates_of_one_kind_has_those_of_the_other_or_itself() -> None:
    # Of label 0 attribute 0 alone, of label 1 both: (0, 0), (1, 0), (1, 1).
    groups = np.array([0, 0, 2, 2, 3])
    within, across = (Mates(groups, 2, 2).draw(np.arange(5), way, random()) for way in (True, False))
    assert set(groups[within[:2]]) == {2} and within[2:4].tolist() == [4, 4] and groups[within[4]] == 2
    assert set(groups[across[:2]]) == {2} and set(groups[across[2:4]]) == {0} and groups[across[4]] == 2
    lone = Mates(np.array([0, 0, 3]), 2, 2)
    for way in (True, False):
        assert lone.draw(np.arange(3), way, random()).tolist() == [0, 1, 2]


def test_shares_are_beta_2_2() -> None:
    drawn = np.sort(beta_2_2(20000, random()).double().numpy())
    # The distribution function is 3 x^2 - 2 x^3. Its largest gap to 20,000 draws is below 0.014 in 999 of 1000 cases.
    assert np.abs(3 * drawn**2 - 2 * drawn**3 - (np.arange(20000) + 0.5) / 20000).max() < 0.014


@pytest.mark.parametrize("shares", [blends, patches])
def test_labels_are_mixed_in_the_proportion_of_the_pixels(shares: Any) -> None:
    of_NHW = shares(50, 32, 48, random())
    seen = mixed(torch.ones(50, 3, 32, 48), torch.zeros(50, 3, 32, 48), of_NHW)
    assert seen.mean((1, 2, 3)).numpy() == pytest.approx(of_NHW.mean((1, 2)).numpy(), abs=1e-6)
    assert of_NHW.min() >= 0 and of_NHW.max() <= 1 and len(np.unique(of_NHW.mean((1, 2)).numpy().round(5))) > 30
    one, two = torch.rand(2, 50, 3, 32, 48, generator=random(1))
    seen = mixed(one, two, of_NHW)
    for i, h, w in ((0, 0, 0), (7, 16, 24), (49, 31, 47)):
        share = float(of_NHW[i, h, w])
        assert torch.allclose(seen[i, :, h, w], share * one[i, :, h, w] + (1 - share) * two[i, :, h, w])


def test_blends_are_even_and_patches_are_rectangles_of_the_images_shape() -> None:
    even = blends(20, 6, 9, random()).reshape(20, -1)
    assert torch.equal(even.min(1).values, even.max(1).values)
    for patch in 1 - patches(200, 32, 64, random()).numpy():
        assert set(np.unique(patch)) <= {0.0, 1.0}
        rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
        assert patch.sum() == len(rows) * len(columns)
        whole = len(rows) and rows.min() > 0 and rows.max() < 31 and columns.min() > 0 and columns.max() < 63
        assert not whole or abs(len(columns) - 2 * len(rows)) <= 4  # both sides are rounded down to even numbers


def test_patches_are_as_large_as_cutmixs() -> None:
    found = np.sort((1 - patches(4000, 32, 32, random())).mean((1, 2)).numpy())
    rng, areas = np.random.default_rng(0), []
    for _ in range(4000):
        side = int(32 * np.sqrt(1 - rng.beta(2, 2)))
        y, x = rng.integers(32, size=2)
        height, width = (min(c + side // 2, 32) - max(c - side // 2, 0) for c in (y, x))
        areas.append(height * width / 32**2)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(found, share) == pytest.approx(np.quantile(areas, share), abs=0.02)


def test_the_loss_is_cross_entropy_against_mixed_labels() -> None:
    rng = np.random.default_rng(0)
    logits, shares = rng.normal(size=(5, 3)), rng.uniform(size=5)
    one, two = np.array([0, 1, 2, 0, 1]), np.array([1, 1, 0, 2, 0])
    soft = shares[:, None] * np.eye(3)[one] + (1 - shares[:, None]) * np.eye(3)[two]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(soft * np.log(probabilities)).sum(1).mean()
    found = mixed_cross_entropy(*(torch.from_numpy(v) for v in (logits, one, two, shares)))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def selective(data: Data, **changed: float) -> tuple[Selective, Training]:
    """LISA's loss in a training that does not augment, before its first batch."""
    config = CONFIG.model_copy(update={"augment": False})
    run = Training("lisa", SETTING | changed, data, config, 3)
    special: BatchLoss | None = run._entered(run.phases[0]).special
    assert isinstance(special, Selective) and run.phases[0].sampling == "groups"
    return special, run


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
@pytest.mark.parametrize("within_label", [0.0, 1.0])
def test_the_network_sees_images_mixed_with_their_mates_and_learns_their_labels(
    data: Data, within_label: float, cutmix: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    special, run = selective(data, within_label=within_label, cutmix=cutmix)
    index, noted = np.array([0, 25, 30, 40, 59]), {}
    draw, shares, features = special.mates.draw, special.shares, run.model.features
    monkeypatch.setattr(special.mates, "draw", lambda *a: noted.setdefault("mates", draw(*a)))
    monkeypatch.setattr(special, "shares", lambda *a: noted.setdefault("shares", shares(*a)))
    monkeypatch.setattr(run.model, "features", lambda seen: noted.setdefault("features", features(noted_seen(seen))))

    def noted_seen(seen: torch.Tensor) -> torch.Tensor:
        return noted.setdefault("seen", seen)

    loss = special(index)
    share_NHW = noted["shares"].numpy()
    assert (len(np.unique(share_NHW)) == 2) == (cutmix == 1.0)
    one, two = (data.train.pixels[places].astype(float) for places in (index, noted["mates"]))
    blended = share_NHW[..., None] * one + (1 - share_NHW[..., None]) * two
    assert torch.allclose(
        noted["seen"], normalised(torch.from_numpy(blended / 255).permute(0, 3, 1, 2)).float(), atol=1e-4
    )
    labels, others = data.train.labels[index], data.train.labels[noted["mates"]]
    assert (labels == others).all() == bool(within_label) and (labels != others).all() == (not within_label)
    log_p = run.model.head(noted["features"]).log_softmax(1).detach().numpy()
    share = share_NHW.mean((1, 2))
    expected = -(share * log_p[np.arange(5), labels] + (1 - share) * log_p[np.arange(5), others]).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_share_of_the_batches_is_mixed_within_labels(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    special, _ = selective(data, within_label=0.25)
    ways: list[bool] = []
    draw = special.mates.draw

    def noted(index: np.ndarray, within_label: bool, rng: torch.Generator) -> np.ndarray:
        ways.append(within_label)
        return draw(index, within_label, rng)

    monkeypatch.setattr(special.mates, "draw", noted)
    for _ in range(200):
        special(np.array([0, 30]))
    assert 0.15 < np.mean(ways) < 0.35


def test_images_are_moved_before_they_are_mixed(data: Data) -> None:
    run = Training("lisa", SETTING, data, CONFIG, 3)
    special = run._entered(run.phases[0]).special
    assert isinstance(special, Selective)
    seen = [special.parts.seen(data.train, np.array([0, 1])) for _ in range(2)]
    plain = normalised(to_tensor(data.train.pixels[:2], "cpu"))
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], plain)

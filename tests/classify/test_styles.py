"""Exchanged styles: an image keeps what is where in it, and has another one's means and deviations, in half of the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.classify.images import Data
from fairsynth.classify.styles import SHARE, exchanged, restyled
from fairsynth.classify.training import Training
from fairsynth.config import ClassifyConfig
from fairsynth.models.classifier import Classifier, build_classifier
from fairsynth.models.data_parallel import Ranks
from tests.support.training import CONFIG, SETTING, data

__all__ = ["data"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> Classifier:
    return build_classifier(ClassifyConfig(backbone="small"), 2, 0)


def stem_of(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """What the stem gives to the rest, exchanged or not; normalisation as in use, so that images are apart."""
    return model.eval().encoder.embedder(images).detach()  # type: ignore[no-any-return]


def styles(maps: torch.Tensor) -> torch.Tensor:
    return torch.cat([maps.mean((2, 3)), maps.std((2, 3), unbiased=False)], 1)


def exchanging() -> torch.Generator:
    """A generator whose next batch is exchanged."""
    return next(rng(seed) for seed in range(99) if torch.rand(1, generator=rng(seed)) < SHARE)


def test_maps_keep_their_shape_and_take_a_style() -> None:
    maps = torch.rand((5, 3, 6, 6), generator=rng()) * torch.tensor([1.0, 4.0, 0.5])[:, None, None]
    other = torch.rand((5, 3, 6, 6), generator=rng(1)) - 3
    given = styles(other)[:, :, None, None]
    found = restyled(maps, given)
    assert torch.allclose(styles(found), styles(other), atol=1e-4)
    plain = [(v - v.mean((2, 3), keepdim=True)) / v.std((2, 3), keepdim=True) for v in (maps, found)]
    assert torch.allclose(*plain, atol=1e-3)


def test_every_image_has_the_style_of_another_once() -> None:
    model, images = network(), torch.rand((8, 3, 32, 32), generator=rng())
    before = stem_of(model, images)
    with exchanged(model, 8, Ranks(), exchanging()):
        within = stem_of(model, images)
    assert torch.equal(stem_of(model, images), before) and not torch.allclose(within, before, atol=1e-2)
    apart = torch.cdist(styles(within), styles(before))
    assert sorted(apart.argmin(1).tolist()) == list(range(8)) and apart.min(1).values.max() < 1e-2


def test_half_of_the_batches_are_exchanged_and_the_same_draws_give_the_same() -> None:
    model, images = network(), torch.rand((4, 3, 32, 32), generator=rng())
    before = stem_of(model, images)

    def found(seed: int) -> list[torch.Tensor]:
        draws, seen = rng(seed), []
        for _ in range(200):
            with exchanged(model, 4, Ranks(), draws):
                seen.append(stem_of(model, images))
        return seen

    one, again = found(3), found(3)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert 0.4 < np.mean([not torch.equal(maps, before) for maps in one]) < 0.6


def test_an_error_within_leaves_the_network_as_it_was() -> None:
    model, images = network(), torch.rand((4, 3, 32, 32), generator=rng())
    before = stem_of(model, images)
    with pytest.raises(ValueError, match="within"), exchanged(model, 4, Ranks(), exchanging()):
        raise ValueError("within")
    assert torch.equal(stem_of(model, images), before)


def test_a_channel_without_deviation_gives_finite_maps_and_gradients() -> None:
    flat = torch.zeros((3, 2, 4, 4), requires_grad=True)
    found = restyled(flat, torch.ones((3, 4, 1, 1)))
    found.sum().backward()
    assert torch.allclose(found, torch.ones(())) and flat.grad is not None and torch.isfinite(flat.grad).all()


def test_no_gradient_flows_through_means_and_deviations() -> None:
    maps = torch.rand((2, 3, 4, 4), generator=rng(), dtype=torch.float64).requires_grad_()
    given = torch.rand((2, 6, 1, 1), generator=rng(1), dtype=torch.float64)
    restyled(maps, given).sum().backward()
    deviation = maps.detach().std((2, 3), keepdim=True, unbiased=False)
    assert maps.grad is not None and torch.allclose(maps.grad, (given[:, 3:] / deviation).expand(2, 3, 4, 4), rtol=1e-3)


@pytest.mark.parametrize("way", ["erm", "lisa", "lff", "fairsynth"])
def test_any_method_can_be_told_to(data: Data, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, int]] = []
    plain = exchanged

    def spy(network: Any, n: int, *more: Any) -> Any:
        seen.append((network, n))
        return plain(network, n, *more)

    monkeypatch.setattr("fairsynth.classify.checkpoint.exchanged", spy)
    for how in ("styles", "strong"):
        config = CONFIG.model_copy(update={"augmentation": how, "synthetic": "none", "stage_2": "none"})
        run = Training(way, SETTING, data, config, 1)
        seen.clear()
        loop = run._entered(run.phases[0])
        run._epoch(loop)
        # The classifier alone: LfF's other network is to learn the shortcut.
        assert len(loop.networks) == 1 + (way == "lff") and all(network is run.model for network, _ in seen)
        assert sum(n for _, n in seen) == (8 * len(data.train) if how == "styles" else 0)

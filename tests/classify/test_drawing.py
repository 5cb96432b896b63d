"""Images are drawn in proportion to their weights, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairsynth.classify import images
from fairsynth.classify.images import Images, drawn, order

LIMIT = 2**24


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_more_places_than_torch_multinomial_takes() -> None:
    weights = torch.full((LIMIT + 10,), 1 / LIMIT, dtype=torch.float64)
    weights[-10:] = 0.1  # together as much as all others
    places = drawn(weights, 20_000, rng())
    assert places.dtype == torch.int64 and int(places.min()) >= 0 and int(places.max()) == LIMIT + 9
    assert (places >= LIMIT).double().mean().item() == pytest.approx(0.5, abs=0.015)
    assert torch.bincount(places[places >= LIMIT] - LIMIT, minlength=10).min() > 800
    # Of the others every part alike.
    others = (places[places < LIMIT] / LIMIT).double()
    assert others.mean().item() == pytest.approx(0.5, abs=0.02) and torch.equal(places, drawn(weights, 20_000, rng()))


@pytest.mark.slow
def test_group_dro_and_resample_draw_from_more_images_than_that() -> None:
    groups = np.zeros(LIMIT + 5, np.int64)
    groups[-4:] = 1
    found = Images(np.empty((0, 1, 1, 3), np.uint8), groups, groups)
    places = order(found, "groups", rng())
    assert len(places) == LIMIT + 5
    assert groups[places].mean() == pytest.approx(0.5, abs=0.002)


def test_many_places_are_drawn_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, n = torch.tensor([0.0, 3.0, 1.0, 0.0, 6.0, 0.0], dtype=torch.float64), 50_000
    few = torch.bincount(drawn(weights, n, rng()), minlength=6) / n
    assert torch.equal(drawn(weights, 9, rng(3)), torch.multinomial(weights, 9, True, generator=rng(3)))
    monkeypatch.setattr(images, "_MOST_PLACES", 5)
    many = torch.bincount(drawn(weights, n, rng()), minlength=6) / n
    for shares in (few, many):
        assert shares.tolist() == pytest.approx([0, 0.3, 0.1, 0, 0.6, 0], abs=0.01)
        assert all(shares[i] == 0 for i in (0, 3, 5))

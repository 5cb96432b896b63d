"""Strong random changes: each image its own, alike however a batch is shared, and none that takes an image away."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from fairsynth.classify import augmentation
from fairsynth.classify.augmentation import CHANGES_PER_IMAGE, passes, strongly_augmented


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 24, size: int = 32) -> torch.Tensor:
    """Smooth random images from 0.2 to 0.8, with a bright square."""
    small = torch.rand((n, 3, 4, 4), generator=rng(5))
    images = 0.2 + 0.6 * torch.nn.functional.interpolate(small, size, mode="bilinear")
    images[:, :, 10:18, 12:20] = 0.95
    return images


def test_images_stay_images_and_change_each_in_its_own_way() -> None:
    one = pictures(1).repeat(64, 1, 1, 1)
    changed = strongly_augmented(one, rng(), 64, slice(None))
    assert changed.shape == one.shape and changed.min() >= 0 and changed.max() <= 1
    distances = (changed[1:] - changed[:-1]).abs().mean((1, 2, 3))
    assert (distances > 0.01).all() and ((changed - one).abs().mean((1, 2, 3)) > 0.005).float().mean() > 0.9


def test_the_same_draws_give_the_same_images_and_others_do_not() -> None:
    one = pictures()
    first, again, other = (strongly_augmented(one, rng(seed), len(one), slice(None)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("cuts", [(0, 12, 24), (0, 5, 9, 24)])
def test_parts_of_a_batch_are_changed_as_the_whole_is(cuts: tuple[int, ...]) -> None:
    one = pictures()
    whole = strongly_augmented(one, rng(), 24, slice(None))
    parts = [slice(a, b) for a, b in pairwise(cuts)]
    shared = torch.cat([strongly_augmented(one[part], rng(), 24, part) for part in parts])
    assert torch.allclose(whole, shared, atol=1e-6)


def test_different_changes_each_and_every_one_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change stands for a digit that it adds to the image."""
    n, names = 3000, [change.__name__ for change in augmentation._CHANGES]

    def digit(place: int) -> object:
        return lambda images, draws: images + 10.0**place

    monkeypatch.setattr(augmentation, "_CHANGES", tuple(digit(i) for i in range(len(names))))
    made = strongly_augmented(torch.zeros((n, 1, 1, 1), dtype=torch.float64), rng(), n, slice(None)).flatten()
    taken = torch.stack([(made / 10**i).floor() % 10 for i in range(len(names))], 1)
    assert set(taken.unique().tolist()) == {0, 1} and (taken.sum(1) == CHANGES_PER_IMAGE).all()
    share = CHANGES_PER_IMAGE / len(names)
    assert taken.mean(0).tolist() == pytest.approx([share] * len(names), abs=4 * (share / n) ** 0.5)


@pytest.mark.parametrize("change", augmentation._CHANGES, ids=lambda change: str(change.__name__))
def test_every_change_does_something_and_leaves_most_of_an_image(change: object) -> None:
    one = pictures(256)
    changed = change(one, augmentation.Draws(rng(), 256, slice(None), one.device))  # type: ignore[operator]
    moved = (changed - one).abs().mean((1, 2, 3))
    assert changed.shape == one.shape and moved.mean() > 0.004 and moved.mean() < 0.3
    assert len({round(float(value), 5) for value in moved}) > 200


def test_a_tint_a_place_and_blur_tell_less_after_it() -> None:
    """What it is for: a threshold on any simple shortcut is wrong more often."""
    n = 400
    red = torch.rand((2 * n, 3, 16, 16), generator=rng(7)) * 0.2 + 0.4
    red[:n, 0] += 0.1
    red[n:, 2] += 0.1
    truth = torch.arange(2 * n) < n

    def told(images: torch.Tensor) -> float:
        return float((((images[:, 0] - images[:, 2]).mean((1, 2)) > 0) == truth).float().mean())

    assert told(red) == 1 and 0.6 < told(strongly_augmented(red, rng(), 2 * n, slice(None))) < 0.95


@pytest.mark.parametrize(
    ("n", "expected", "with_styles"), [(100, 25, 100), (640, 4, 16), (1200, 2, 8), (2500, 1, 4), (100_000, 1, 1)]
)
def test_few_images_are_gone_over_more_often_and_with_exchanged_styles_even_more(
    n: int, expected: int, with_styles: int
) -> None:
    assert passes(n) == expected and passes(n, styles=True) == with_styles


@pytest.mark.parametrize("n", [1, 2, 24])
def test_a_change_is_made_of_its_own_images_alone_and_to_the_bit_as_of_all(n: int) -> None:
    one = pictures(n).contiguous(memory_format=torch.channels_last)
    draws = augmentation.Draws(rng(3), n, slice(None), one.device)
    chosen = draws(0, 1, len(augmentation._CHANGES)).argsort(1)[:, :CHANGES_PER_IMAGE]
    expected = one.contiguous()
    for number, change in enumerate(augmentation._CHANGES):
        taken = (chosen == number).any(1)[:, None, None, None]
        expected = torch.where(taken, change(expected, draws), expected)
    before = one.clone()
    assert torch.equal(strongly_augmented(one, rng(3), n, slice(None)), expected) and torch.equal(one, before)

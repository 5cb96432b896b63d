"""Where not even one sample's activations fit, they are computed again in the backward pass: the same training, longer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from fairsynth.errors import Exhausted
from tests.support.lots import CONFIG, TWO_LEVELS, furthest_apart, jobs, run, tiny_unet, train, trainer_of

WORK = jobs([3, 2, 3])


def short_of_memory(unet: UNet2DConditionModel, never: bool = False) -> list[int]:
    """Let passes fail for want of memory that keep their activations, or all that are to be trained on; counts the others."""
    sizes: list[int] = []

    def look(module: Any, args: tuple[torch.Tensor, ...]) -> None:
        kept = not any(getattr(part, "gradient_checkpointing", False) for part in unet.modules())
        if torch.is_grad_enabled() and (never or kept):
            raise torch.cuda.OutOfMemoryError("pretended")
        if torch.is_grad_enabled():
            sizes.append(len(args[0]))

    unet.register_forward_pre_hook(look)
    return sizes


@pytest.mark.parametrize("width", [None, 8])
def test_adapters_are_the_same(width: int | None) -> None:
    unet = tiny_unet(torch.float64, TWO_LEVELS)
    plain = train(copy.deepcopy(unet), WORK, CONFIG, width)
    sizes = short_of_memory(unet)
    assert furthest_apart(train(unet, WORK, CONFIG, width), plain) < 1e-9
    each = CONFIG.batch_size + (CONFIG.prior_batch_size or 0)
    assert max(sizes) == len(WORK) * each, "as many at once as before, when there is room again"


def test_what_does_not_fit_even_so_ends_with_what_to_do() -> None:
    unet = tiny_unet(torch.float64)
    short_of_memory(unet, never=True)
    with pytest.raises(Exhausted, match=r"has not enough memory for one sample of an adapter's step.*models\.dtype"):
        run(trainer_of(unet, WORK), WORK)

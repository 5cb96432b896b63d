"""What every family of base models is asked for: training as by peft alone, images as by the model's own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairsynth.config import FinetuneConfig
from fairsynth.data.shapes import Shape
from fairsynth.models.adapters import save_adapter
from fairsynth.models.diffusion import encode_prompts
from fairsynth.models.families.conditions import mapped
from fairsynth.models.families.family import Family
from fairsynth.models.families.noise import Noise
from fairsynth.models.families.table import family_of
from fairsynth.models.sampling import Wanted, denoise, to_pixels
from fairsynth.models.schedule import Sampling
from fairsynth.models.stacked import StackedAdapters, gradient
from fairsynth.stages.finetune.denoising import Batch, Draw
from tests.support.models.small_networks import ALPHA, RANK, rows_of, with_peft

PROMPTS = ("a photo of a low number on a building", "a photo of a high number", "a flower")
AGAINST = ("blur", "", "a building")
SEEDS, STEPS, SIDE = (7, 8, 9), 4, 32
SQUARE = Shape(SIDE, SIDE)
Images = NDArray[Any]
# The network with an adapter, what is drawn, and what the network is told of each sample: the loss by a public script.
Script = Callable[[nn.Module, Draw, dict[str, torch.Tensor]], torch.Tensor]


class Difference(NamedTuple):
    """The furthest that stacked adapters are from peft's."""

    loss: float
    gradient: float


def draws_of(shape: Sequence[int], noise: Noise, count: int = 3, each: int = 2) -> list[Draw]:
    """What several adapters see in a step, float64; levels of noise near both ends among them."""
    generator = torch.Generator().manual_seed(5)
    levels = [*noise.draw(count * each - 2, generator).tolist(), 0, noise.levels - 1]
    whole = torch.randn(2, count, each, *shape, generator=generator, dtype=torch.float64)
    return [Draw(whole[0, n], whole[1, n], torch.tensor(levels[n * each : n * each + each])) for n in range(count)]


def from_peft(
    family: Family, pipeline: Any, noise: Noise, targets: Sequence[str], shape: Sequence[int], script: Script
) -> Difference:
    """Losses and gradients of adapters trained at once, in float64, against a script that trains each alone."""
    network = nn.Module.to(family.network_of(pipeline), torch.float64)
    draws = draws_of(shape, noise)
    told = mapped(_double, encode_prompts(pipeline, PROMPTS))
    texts = mapped(lambda value: value.unsqueeze(1), told)
    batch = Batch(noise, FinetuneConfig(prior_weight=0), draws, texts, 2, torch.float64)
    stack = StackedAdapters(network, RANK, ALPHA, targets)
    weights = rows_of(stack, len(draws))
    with stack.using(weights) as leaves:
        losses, _ = batch.losses(family.predict(network, batch.noisy, batch.times, batch.conditions), None)
        gradients = gradient(losses, leaves)
    stack.remove()
    apart = Difference(0.0, 0.0)
    for n, draw in enumerate(draws):
        alone = with_peft(network, stack.state(weights[n]), targets)
        loss = script(alone, draw, mapped(lambda value: value[[n, n]], told))  # noqa: B023
        loss.backward()
        apart = Difference(
            max(apart.loss, float((loss - losses[n]).detach().abs())),
            max(apart.gradient, _apart(stack.state(gradients[n]), alone)),
        )
    return apart


def _double(value: torch.Tensor) -> torch.Tensor:
    """Numbers as float64; a mask stays one."""
    return value.double() if value.is_floating_point() else value


def _apart(ours: Mapping[str, torch.Tensor], alone: nn.Module) -> float:
    theirs = {name.replace(".a.", "."): p.grad for name, p in alone.named_parameters() if p.requires_grad}
    assert ours.keys() == theirs.keys()
    found = [(value - (0 if theirs[name] is None else theirs[name])).abs().max() for name, value in ours.items()]
    assert max(value.abs().max() for value in ours.values()) > 1e-4, "gradients of nothing prove nothing"
    return float(max(found))


def wanted(pipeline: Any, guidance: float, count: int = 3) -> Wanted:
    """An image per seed, each with prompts of its own."""
    texts = [encode_prompts(pipeline, words[:count]) for words in (PROMPTS, AGAINST)]
    return Wanted(texts[0], texts[1], [guidance] * count, SEEDS[:count])


def ours(pipeline: Any, guidance: float, scheduler: Any = "euler", shape: Shape = SQUARE, **more: Any) -> Images:
    """Our images, each value in 0..255."""
    return to_pixels(
        pipeline, denoise(pipeline, wanted(pipeline, guidance), shape, Sampling(STEPS, scheduler), **more)
    ).astype(int)


def theirs(pipeline: Any, guidance: float, rows: slice = slice(0, 3), shape: Shape = SQUARE, **more: Any) -> Images:
    """Those of the model's own pipeline, not rounded."""
    images = pipeline(
        prompt=list(PROMPTS[rows]),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS[rows]],
        height=shape.height,
        width=shape.width,
        output_type="np",
        **more,
    ).images
    return images * 255  # type: ignore[no-any-return]


def furthest(one: Images, other: Images) -> float:
    """The largest difference of two values."""
    return float(np.abs(one - other).max())


def with_adapters(pipeline: Any, targets: Sequence[str], folder: Path, guidance: float) -> Images:
    """Our images by three adapters at once, one each; their files are left in folders 0, 1 and 2."""
    family = family_of(pipeline)
    stack = StackedAdapters(family.network_of(pipeline), RANK, ALPHA, targets)
    weights = rows_of(stack, 3, torch.float32)
    with stack.using(weights):
        found = ours(pipeline, guidance, adapters=3)
    stack.remove()
    for n, row in enumerate(weights):
        (folder / str(n)).mkdir(parents=True)
        save_adapter(stack.state(row), folder / str(n), RANK, int(ALPHA), targets, {}, family.network)
    return found

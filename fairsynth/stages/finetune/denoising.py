"""The samples of an adapter's training step, and its loss.

Every draw is a function of (seed, attempt, step) alone: not of the adapters beside it, nor of kills and resumes.
DreamBooth's prior preservation: arXiv 2208.12242, eq. 2; its form with the frozen base as teacher replaces the
images of the class prompt by what the base itself predicts for it, at the same noise and timestep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fairsynth.config import FinetuneConfig
from fairsynth.models.families.conditions import Conditions, in_format, mapped
from fairsynth.models.families.noise import Noise
from fairsynth.stages.finetune.jobs import Kinds
from fairsynth.stages.finetune.passes import LatentShape, Steps, generator, shuffled

# Loss, in multiples of the target's own power, at which a network does far worse than one that predicts nothing.
EXPLODED = 10.0


@dataclass(frozen=True)
class Latents:
    """Training data of an adapter: posterior mean and std (M, C, h, w), and class latents (K, C, h, w) or None.

    Where images have several shapes, mean and std are lists of M arrays (C, h, w), and there are no class latents.

    ``facts``: what the network is told of each image besides its text (``Family.image_facts``), (M, …) each;
    ``prior_facts``: of one class image, (1, …) each.
    """

    mean: NDArray[np.float32] | Sequence[NDArray[np.float32]]
    std: NDArray[np.float32] | Sequence[NDArray[np.float32]]
    prior: NDArray[np.float32] | None = None
    facts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    prior_facts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def shapes(self) -> list[LatentShape]:
        """The shape of each image's latents."""
        return [tuple(mean.shape) for mean in self.mean]


@dataclass(frozen=True)
class Draw:
    """Samples of one adapter, those of its own images first: clean and noise (S, C, h, w), levels of noise (S,)."""

    clean: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    texts: torch.Tensor | None = None
    """Which of the adapter's texts each sample has, int64 (S,); None: own images the first, the prior's the second."""
    facts: Conditions = field(default_factory=dict)
    """What the network is told of the images besides their texts, (S, …) each."""

    def part(self, places: Sequence[int], own: int) -> tuple[Draw, int]:
        """Some of the samples, and how many of them are among the first ``own``; the places go up."""
        chosen = list(places)
        texts = None if self.texts is None else self.texts[chosen]
        facts = mapped(lambda value: value[chosen], self.facts)
        some = Draw(self.clean[chosen], self.noise[chosen], self.levels[chosen], texts, facts)
        return some, sum(i < own for i in chosen)

    @property
    def kind(self) -> tuple[int, ...]:
        """What draws have in common that can share a batch: their number of samples, and the shape of latents."""
        return tuple(self.clean.shape)


class Sampler:
    """The draws of one adapter: see ``passes`` for which images come when; ``kinds``: of a shared adapter."""

    def __init__(
        self, latents: Latents, seed: int, config: FinetuneConfig, noise: Noise, kinds: Kinds | None = None
    ) -> None:
        self.latents, self.seed, self.config, self.noise, self.kinds = latents, seed, config, noise, kinds
        order = shuffled(len(latents.mean), seed, "held out")
        held = round(config.validation_share * len(order)) if len(order) >= config.validation_min_images else 0
        self.held, self.images = order[:held], sorted(order[held:])
        own, self.shapes = range(len(order)) if kinds else self.images, latents.shapes
        self.steps = Steps(own, self.shapes, config.batch_size, seed, kinds.of_image if kinds else None)

    def __call__(self, step: int, attempt: int = 0) -> Draw:
        """The samples of one step: ``batch_size`` own images, then those of the prior, if any."""
        config, rng = self.config, generator(self.seed, *(("attempt", attempt) if attempt else ()), step)
        chosen = self.steps(step)
        clean = self._own(chosen, rng)
        noise = torch.randn(clean.shape, generator=rng)
        levels, facts = self.noise.draw(len(clean), rng), _rows(self.latents.facts, chosen)
        if self.kinds:
            return Draw(clean, noise, levels, self._texts(chosen, self.kinds, rng), facts)
        size = config.prior_size
        own = Draw(clean, noise, levels, None, facts)
        if not size:
            return own
        if config.prior == "teacher":
            return _joined(own, own.part([i % len(clean) for i in range(size)], 0)[0])
        assert self.latents.prior is not None
        others = torch.randint(0, len(self.latents.prior), (size,), generator=rng)
        other = torch.from_numpy(self.latents.prior)[others]
        more = self.noise.draw(size, rng)
        told = _rows(self.latents.prior_facts, [0] * size)
        return _joined(own, Draw(other, torch.randn(other.shape, generator=rng), more, None, told))

    def held_out(self) -> list[Draw]:
        """``validation_samples`` of the held-out images, the same at every call: fixed timesteps, fixed noise.

        A draw for each shape that they have.
        """
        count, rng = self.config.validation_samples, generator(self.seed, "validation")
        levels, shapes = min(4, count), self.shapes
        fixed = torch.tensor([int((i % levels + 0.5) / levels * self.noise.levels) for i in range(count)])
        chosen = [self.held[i // levels % len(self.held)] for i in range(count)]
        draws = []
        for shape in dict.fromkeys(shapes[image] for image in chosen):
            places = [i for i, image in enumerate(chosen) if shapes[image] == shape]
            images = [chosen[i] for i in places]
            clean = self._own(images, rng)
            noise = torch.randn(clean.shape, generator=rng)
            draws.append(Draw(clean, noise, fixed[places], None, _rows(self.latents.facts, images)))
        return draws

    def _texts(self, images: Sequence[int], kinds: Kinds, rng: torch.Generator) -> torch.Tensor:
        """Each image's kind; for some, by chance, the last text, which is empty."""
        own = torch.tensor([kinds.of_image[image] for image in images])
        return torch.where(torch.rand(len(images), generator=rng) < kinds.text_dropout, len(kinds.prompts), own)

    def _own(self, images: Sequence[int], rng: torch.Generator) -> torch.Tensor:
        """A fresh latent of each image from its posterior."""
        parts = self.latents.mean, self.latents.std
        mean, std = (torch.stack([torch.from_numpy(part[image]) for image in images]) for part in parts)
        return mean + std * torch.randn(mean.shape, generator=rng)


def _rows(facts: Mapping[str, NDArray[np.float32]], images: Sequence[int]) -> Conditions:
    return {name: torch.from_numpy(values)[list(images)] for name, values in facts.items()}


def _joined(own: Draw, prior: Draw) -> Draw:
    """Own samples, then those of the prior."""
    clean, noise, levels = (
        torch.cat([getattr(part, name) for part in (own, prior)]) for name in ("clean", "noise", "levels")
    )
    facts = {name: torch.cat([own.facts[name], prior.facts[name]]) for name in own.facts}
    return Draw(clean, noise, levels, None, facts)


class Batch:
    """The draws of N adapters, adapter-major, with noise added: the network's inputs and targets.

    ``texts``: of every adapter its K texts, tensors (N, K, …). ``own``: number of samples in each draw from the adapter's own
    images; the rest is the prior's. ``totals``: own and prior samples that the means are over, where several workers share a
    draw.
    """

    def __init__(
        self,
        schedule: Noise,
        config: FinetuneConfig,
        draws: Sequence[Draw],
        texts: Conditions,
        own: int,
        dtype: torch.dtype,
        totals: tuple[int, int] | None = None,
    ) -> None:
        device, wide = texts["text"].device, torch.promote_types(dtype, torch.float32)
        clean, noise = (torch.cat([getattr(draw, part) for draw in draws]).to(wide) for part in ("clean", "noise"))
        levels, self.config, self.adapters = torch.cat([draw.levels for draw in draws]), config, len(draws)
        self.own, self.each = own, len(levels) // len(draws)
        self.totals = totals or (own, max(1, self.each - own))
        target, weights = schedule.target(clean, noise, levels), schedule.weights(levels, config.snr_ceiling).to(wide)
        self.noisy = _moved(schedule.noisy(clean, noise, levels).to(dtype), device)
        self.target, self.weights, self.times = (
            _moved(part, device) for part in (target, weights, schedule.times(levels))
        )
        self.facts = tuple(draws[0].facts)
        self.conditions = mapped(partial(self._texts_of, draws), in_format(texts, dtype))
        for name in self.facts:
            # In full: a size of 333 is none of 334.
            self.conditions[name] = _moved(torch.cat([draw.facts[name] for draw in draws]), device)

    def _texts_of(self, draws: Sequence[Draw], texts_NK: torch.Tensor) -> torch.Tensor:
        """Every sample's text, adapter-major: the one that its draw names, or the own images' first, the prior's second."""
        kinds = [draw.texts for draw in draws if draw.texts is not None]
        if kinds:
            named = zip(kinds, texts_NK, strict=True)
            return torch.cat([texts_K[_moved(which, texts_K.device)] for which, texts_K in named])
        sizes = (self.own, self.each - self.own)
        same = [-1] * (texts_NK.dim() - 2)
        texts = [texts_NK[:, i : i + 1].expand(-1, size, *same) for i, size in enumerate(sizes)]
        return torch.cat(texts, 1).flatten(0, 1)

    @property
    def asked(self) -> tuple[torch.Tensor, torch.Tensor, Conditions] | None:
        """Inputs of the frozen base as teacher: noisy, times, conditions of the prior's samples; None without a teacher."""
        if self.config.prior != "teacher" or self.each == self.own:
            return None
        return self._prior(self.noisy), self._prior(self.times), mapped(self._prior, self.conditions)

    def _prior(self, values: torch.Tensor) -> torch.Tensor:
        """The samples of the prior, adapter-major; by slices, because a mask would make the host wait for a GPU."""
        return values.unflatten(0, (self.adapters, self.each))[:, self.own :].flatten(0, 1)

    def losses(self, predicted: torch.Tensor, taught: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each adapter, and loss of predicting nothing, (N,) each; ``taught`` is the teacher's prediction."""
        target = self.target
        if taught is not None:
            own = target.unflatten(0, (self.adapters, self.each))[:, : self.own]
            prior = taught.to(target.dtype).unflatten(0, (self.adapters, self.each - self.own))
            target = torch.cat([own, prior], 1).flatten(0, 1)
        errors = (predicted.to(target.dtype) - target).square().mean((1, 2, 3)) * self.weights
        power = target.square().mean((1, 2, 3)) * self.weights
        return self._mean(errors), self._mean(power)

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over an adapter's own samples, plus the weighted mean over those of the prior."""
        own, prior = values.view(self.adapters, self.each).split([self.own, self.each - self.own], 1)
        return own.sum(1) / self.totals[0] + self.config.prior_weight * prior.sum(1) / self.totals[1]


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

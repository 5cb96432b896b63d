"""The samples of an adapter's training step, and its loss.

Every draw is a function of (seed, attempt, step) alone: not of the adapters beside it, nor of kills and resumes.
DreamBooth's prior preservation: arXiv 2208.12242, eq. 2; its form with the frozen base as teacher replaces the
images of the class prompt by what the base itself predicts for it, at the same noise and timestep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray

from fairsynth.config import FinetuneConfig
from fairsynth.manifest import seed_for
from fairsynth.stages.finetune.jobs import Kinds

# Loss, in multiples of the target's own power, at which a network does far worse than one that predicts nothing.
EXPLODED = 10.0


@dataclass(frozen=True)
class Latents:
    """Training data of an adapter: posterior mean and std (M, C, h, w), and class latents (K, C, h, w) or None."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    prior: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Draw:
    """Samples of one adapter, those of its own images first: clean and noise (S, C, h, w), timesteps (S,)."""

    clean: torch.Tensor
    noise: torch.Tensor
    times: torch.Tensor
    texts: torch.Tensor | None = None
    """Which of the adapter's texts each sample has, int64 (S,); None: own images the first, the prior's the second."""

    def part(self, places: Sequence[int], own: int) -> tuple[Draw, int]:
        """Some of the samples, and how many of them are among the first ``own``; the places go up."""
        chosen = list(places)
        texts = None if self.texts is None else self.texts[chosen]
        return Draw(self.clean[chosen], self.noise[chosen], self.times[chosen], texts), sum(i < own for i in chosen)


class Sampler:
    """The draws of one adapter; images come in shuffled passes, so that all are seen equally often.

    With ``kinds`` (of a shared adapter) the kinds take turns in random order, and each kind's images come in passes.
    """

    def __init__(
        self, latents: Latents, seed: int, config: FinetuneConfig, timesteps: int, kinds: Kinds | None = None
    ) -> None:
        self.latents, self.seed, self.config, self.timesteps, self.kinds = latents, seed, config, timesteps, kinds
        order = torch.randperm(len(latents.mean), generator=_generator(seed, "held out")).tolist()
        held = round(config.validation_share * len(order)) if len(order) >= config.validation_min_images else 0
        self.held, self.images = order[:held], sorted(order[held:])
        self._members = _members(kinds.of_image) if kinds else [self.images]
        self._passes: dict[int, tuple[int, list[int]]] = {}

    def __call__(self, step: int, attempt: int = 0) -> Draw:
        """The samples of one step: ``batch_size`` own images, then those of the prior, if any."""
        config, rng = self.config, _generator(self.seed, *(("attempt", attempt) if attempt else ()), step)
        chosen = [self._image(step * config.batch_size + i) for i in range(config.batch_size)]
        clean = self._own(chosen, rng)
        noise = torch.randn(clean.shape, generator=rng)
        times = torch.randint(0, self.timesteps, (len(clean),), generator=rng)
        if self.kinds:
            return Draw(clean, noise, times, self._texts(chosen, self.kinds, rng))
        size = config.prior_size
        if not size:
            return Draw(clean, noise, times)
        if config.prior == "teacher":
            again = [i % len(clean) for i in range(size)]
            return Draw(*(torch.cat([part, part[again]]) for part in (clean, noise, times)))
        assert self.latents.prior is not None
        others = torch.randint(0, len(self.latents.prior), (size,), generator=rng)
        other = torch.from_numpy(self.latents.prior)[others]
        more = torch.randint(0, self.timesteps, (size,), generator=rng)
        other_noise = torch.randn(other.shape, generator=rng)
        return Draw(torch.cat([clean, other]), torch.cat([noise, other_noise]), torch.cat([times, more]))

    def held_out(self) -> Draw:
        """``validation_samples`` of the held-out images, the same at every call: fixed timesteps, fixed noise."""
        count, rng = self.config.validation_samples, _generator(self.seed, "validation")
        levels = min(4, count)
        clean = self._own([self.held[i // levels % len(self.held)] for i in range(count)], rng)
        noise = torch.randn(clean.shape, generator=rng)
        times = torch.tensor([int((i % levels + 0.5) / levels * self.timesteps) for i in range(count)])
        return Draw(clean, noise, times)

    def _image(self, position: int) -> int:
        """Which image comes at a position of the endless sequence of shuffled passes."""
        turn, kind = divmod(position, len(self._members))
        if self.kinds:
            kind = self._shuffled(len(self._members), "turn", turn)[kind]
        members = self._members[kind]
        number, place = divmod(turn, len(members))
        if self._passes.get(kind, (-1, []))[0] != number:
            # The words of a pass are those from before kinds: they decide what known adapters become.
            words = ("pass", kind, number) if self.kinds else ("pass", number)
            self._passes[kind] = number, [members[i] for i in self._shuffled(len(members), *words)]
        return self._passes[kind][1][place]

    def _shuffled(self, n: int, *words: object) -> list[int]:
        return torch.randperm(n, generator=_generator(self.seed, *words)).tolist()  # type: ignore[no-any-return]

    def _texts(self, images: Sequence[int], kinds: Kinds, rng: torch.Generator) -> torch.Tensor:
        """Each image's kind; for some, by chance, the last text, which is empty."""
        own = torch.tensor([kinds.of_image[image] for image in images])
        return torch.where(torch.rand(len(images), generator=rng) < kinds.text_dropout, len(kinds.prompts), own)

    def _own(self, images: Sequence[int], rng: torch.Generator) -> torch.Tensor:
        """A fresh latent of each image from its posterior."""
        mean, std = (torch.from_numpy(part)[list(images)] for part in (self.latents.mean, self.latents.std))
        return mean + std * torch.randn(mean.shape, generator=rng)


def _members(of_image: Sequence[int]) -> list[list[int]]:
    """The images of every kind that has some."""
    return [[i for i, kind in enumerate(of_image) if kind == one] for one in sorted({*of_image})]


def _generator(*key: object) -> torch.Generator:
    # Two keys in 2**32 share their draws (manifest.noise_of). Steps that do see other images with the same noise.
    return torch.Generator().manual_seed(seed_for(*key))


class Batch:
    """The draws of N adapters, adapter-major, with noise added: the network's inputs and targets.

    ``own``: number of samples in each draw from the adapter's own images; the rest is the prior's. ``totals``: own and
    prior samples that the means are over, where several workers share a draw.
    """

    def __init__(
        self,
        scheduler: DDPMScheduler,
        config: FinetuneConfig,
        draws: Sequence[Draw],
        texts_NKTW: torch.Tensor,
        own: int,
        dtype: torch.dtype,
        totals: tuple[int, int] | None = None,
    ) -> None:
        device, wide = texts_NKTW.device, torch.promote_types(dtype, torch.float32)
        clean, noise = (torch.cat([getattr(draw, part) for draw in draws]).to(wide) for part in ("clean", "noise"))
        times, self.config, self.adapters = torch.cat([draw.times for draw in draws]), config, len(draws)
        self.own, self.each = own, len(times) // len(draws)
        self.totals = totals or (own, max(1, self.each - own))
        target = target_of(scheduler, clean, noise, times)
        weights = loss_weights(scheduler, times, config.snr_ceiling).to(wide)
        self.noisy = _moved(scheduler.add_noise(clean, noise, times).to(dtype), device)
        self.target, self.weights, self.times = (_moved(part, device) for part in (target, weights, times))
        self.texts = self._texts_of(draws, texts_NKTW).to(dtype)

    def _texts_of(self, draws: Sequence[Draw], texts_NKTW: torch.Tensor) -> torch.Tensor:
        """Every sample's text, adapter-major: the one that its draw names, or the own images' first, the prior's second."""
        kinds = [draw.texts for draw in draws if draw.texts is not None]
        if kinds:
            named = zip(kinds, texts_NKTW, strict=True)
            return torch.cat([texts_KTW[_moved(which, texts_KTW.device)] for which, texts_KTW in named])
        sizes = (self.own, self.each - self.own)
        texts = [texts_NKTW[:, i : i + 1].expand(-1, size, -1, -1) for i, size in enumerate(sizes)]
        return torch.cat(texts, 1).flatten(0, 1)

    @property
    def asked(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Inputs of the frozen base as teacher: noisy, times, texts of the prior's samples; None without a teacher."""
        if self.config.prior != "teacher" or self.each == self.own:
            return None
        return self._prior(self.noisy), self._prior(self.times), self._prior(self.texts)

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


def target_of(
    scheduler: DDPMScheduler, clean_NCHW: torch.Tensor, noise_NCHW: torch.Tensor, times_N: torch.Tensor
) -> torch.Tensor:
    """What the network of such a model should predict, (N, C, h, w): noise, velocity (arXiv 2202.00512) or clean latents.

    Raises ValueError for another kind of prediction.
    """
    match scheduler.config.prediction_type:
        case "epsilon":
            return noise_NCHW
        case "v_prediction":
            return scheduler.get_velocity(clean_NCHW, noise_NCHW, times_N)
        case "sample":
            return clean_NCHW
        case other:
            raise ValueError(f"no training target is known for prediction_type {other!r}")


def loss_weights(scheduler: DDPMScheduler, times_N: torch.Tensor, ceiling: float | None) -> torch.Tensor:
    """Min-SNR weights (arXiv 2303.09556, eq. 4): float32 (N,); ones without a ceiling.

    The error of the clean latents weighs min(SNR, ceiling). That of the noise is SNR times as large, that of the velocity
    SNR + 1 times (arXiv 2202.00512, appendix D), so theirs is divided by it: the three are one loss.
    """
    if ceiling is None:
        return torch.ones(len(times_N))
    alphas = scheduler.alphas_cumprod[times_N].float()
    # At zero terminal SNR the weight is the limit, 1 for the noise, and not 0 / 0.
    snr = (alphas / (1 - alphas)).clamp(min=torch.finfo(torch.float32).tiny)
    ratio = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
    return snr.clamp(max=ceiling) / ratio[scheduler.config.prediction_type]

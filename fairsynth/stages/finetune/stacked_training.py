"""Trains many adapters at once on one frozen network, each exactly as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psutil
import torch
from torch import nn

from fairsynth.config import FinetuneConfig
from fairsynth.errors import ConfigError, Exhausted
from fairsynth.models.compiled import Compiled
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions, mapped
from fairsynth.models.memory import LIGHTER, Parts
from fairsynth.models.stacked import StackedAdapters, gradient
from fairsynth.stages.finetune.compiling import LEAST_FULL, Compiling
from fairsynth.stages.finetune.denoising import Batch, Draw, Latents
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot import Lot
from fairsynth.stages.finetune.lot_state import LotState, Row, Trained

Result = TypeVar("Result")
# Maximum of adapters in one pass: beyond it the passes get no cheaper per adapter.
MOST_AT_ONCE = 16
# Share of the free memory for activations; the rest is for a step's other needs, and for others.
MEMORY_SHARE = 0.6


class StackedTrainer:
    """Trains the adapters of a lot on one network.

    ``texts`` maps every prompt to what the network is told of it, tensors without a batch; ``load`` gives an adapter's latents when its turn comes.
    ``width``: adapters in training at once; None: as many as ``memory_share`` of the free memory holds.
    ``compiled``: the same network in another form, which is called with ``rows`` adapters at a time, or ``width`` if that is
    fewer. Where there are not so many, rows for nobody fill the pass up: other shapes would be compiled anew.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        config: FinetuneConfig,
        texts: Mapping[str, Conditions],
        load: Callable[[AdapterJob], Latents],
        width: int | None = None,
        memory_share: float = 1.0,
        compiled: Callable[..., Any] | None = None,
        rows: int = MOST_AT_ONCE,
    ) -> None:
        self.compiled, self.compiled_rows = compiled, rows
        self.denoiser, self.config, self.texts, self.load = denoiser, config, texts, load
        self.network: nn.Module = denoiser.network
        self.width, self.memory_share = width, memory_share
        self.rows = Parts("an adapter", LIGHTER, width or MOST_AT_ONCE)
        """Adapters in one forward pass; halved if memory still runs out."""
        self.samples = Parts("one sample of an adapter's step", LIGHTER)
        """Samples in one forward pass of an adapter that is alone in it and for whose batch memory is too small."""
        self.dtype = denoiser.network.dtype
        self.master = torch.promote_types(self.dtype, torch.float32)

    def train(
        self,
        jobs: Sequence[AdapterJob],
        ended: Callable[[Trained], None],
        resume: LotState | None = None,
        begun: Mapping[str, Row] | None = None,
        checkpoint: Callable[[LotState], None] | None = None,
        notice: Callable[[], bool] = lambda: False,
        told: Callable[[Mapping[str, float]], None] = lambda shares: None,
    ) -> None:
        """Train all jobs; ``ended`` gets each as it ends.

        ``resume`` is this lot's state: going on from it ends with the same bits as never having stopped.
        ``begun`` are adapters that were begun in other lots. ``checkpoint`` gets the state every
        ``checkpoint_every`` steps and whenever ``notice`` turns true: the machine is about to go. ``told`` gets the
        share of its steps that each adapter in training has done, behind every step.
        Raises ConfigError if the network has no layers, or unfit ones, for ``target_modules``.
        """
        config = self.config
        try:
            uneven = self.denoiser.family.uneven
            stack = StackedAdapters(self.network, config.rank, config.alpha, config.target_modules, uneven)
        except ValueError as error:
            section = "shared" if any(job.kinds for job in jobs) else "finetune"
            raise ConfigError(f"{section}.target_modules: {error}") from error
        try:
            Lot(self, stack, jobs, ended, resume, begun or {}, checkpoint, notice, told).run()
        finally:
            stack.remove()

    def step_gradient(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_NK: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, loss of predicting nothing, (N,) each, and gradient (N, P) of adapters on their draws.

        Those whose images have one shape at this step go through the network together.
        """
        several = alike([draw.kind for draw in draws])
        if len(several) == 1:
            return self._of_one_shape(stack, weights_NP, draws, texts_NK)
        found = [
            self._of_one_shape(stack, weights_NP[own], [draws[i] for i in own], _rows_of(texts_NK, own))
            for own in several
        ]
        back = torch.tensor([i for own in several for i in own]).argsort().tolist()
        losses, powers, gradients = (torch.cat(part)[back] for part in zip(*found, strict=True))
        return losses, powers, gradients

    def _of_one_shape(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_NK: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        def part(rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self._part(stack, weights_NP[rows], draws[rows], _rows_of(texts_NK, rows))

        parts = self._with_room(lambda: self.rows(len(draws), part))
        losses, powers, gradients = (torch.cat(some) if len(some) > 1 else some[0] for some in zip(*parts, strict=True))
        return losses, powers, gradients

    def _with_room(self, work: Callable[[], Result]) -> Result:
        """The work; where memory does not hold one sample's pass, its activations are computed again when they are needed.

        That takes a third longer (arXiv 1604.06174), so parts of a batch come first. Raises Exhausted if it is not enough.
        """
        try:
            return work()
        except Exhausted:
            if not getattr(self.network, "_supports_gradient_checkpointing", False) or self._recomputes():
                raise
        self.network.enable_gradient_checkpointing()  # type: ignore[operator]
        self.rows.size, self.samples.size = self.width or MOST_AT_ONCE, None
        return work()

    def _recomputes(self) -> bool:
        return any(getattr(module, "gradient_checkpointing", False) for module in self.network.modules())

    def _part(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_NK: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same for adapters in one pass; of a single one the samples in several, where memory does not hold them."""

        n, full = len(draws), self._full_pass(len(draws))
        if full > n:
            # Copies of the first adapter's samples, with an adapter of zeros: what becomes of these rows is dropped.
            weights_NP = torch.cat([weights_NP, weights_NP.new_zeros(full - n, weights_NP.shape[1])])
            texts_NK = _rows_of(texts_NK, [*range(n), *[0] * (full - n)])
            draws = [*draws, *[draws[0]] * (full - n)]

        def passed(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            taught = None
            if batch.asked is not None:
                with torch.no_grad():
                    taught = self.denoiser(*batch.asked)
            with stack.using(weights_NP) as leaves:
                network = self.compiled if full else None
                predicted = self.denoiser(batch.noisy, batch.times, batch.conditions, network)
                losses, powers = batch.losses(predicted, taught)
                found = losses.detach(), powers, gradient(losses, leaves)
            return tuple(part[:n] for part in found) if full > n else found  # type: ignore[return-value]

        parts = self._batches(draws, texts_NK, self.config.batch_size, passed)
        if len(parts) == 1:
            return parts[0]
        losses, powers, gradients = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
        return losses, powers, gradients

    def _full_pass(self, n: int) -> int:
        """Rows of the pass that n adapters go through compiled; 0: not compiled, for so few of them would be in use."""
        if self.compiled is None or self.width is None:
            return 0
        full = min(self.compiled_rows, self.width, self.rows.size or MOST_AT_ONCE)
        return full if full >= n >= LEAST_FULL * full else 0

    def _batches(
        self,
        draws: Sequence[Draw],
        texts_NK: Conditions,
        own: int,
        work: Callable[[Batch], Result],
        whole: int | None = None,
    ) -> list[Result]:
        """The work on the draws as one batch, or on parts of a single draw, whose losses and gradients add up.

        ``whole``: own samples that the mean is over, if these draws are not all of them.
        """
        dtype, each = self.dtype, len(draws[0].levels)
        totals = (whole or own, max(1, each - own))
        if len(draws) > 1:
            return [work(Batch(self.denoiser.noise, self.config, draws, texts_NK, own, dtype, totals))]

        def of(places: slice) -> Result:
            part, own_there = draws[0].part(range(each)[places], own)
            return work(Batch(self.denoiser.noise, self.config, [part], texts_NK, own_there, dtype, totals))

        return self.samples(each, of)

    @torch.no_grad()
    def validation_losses(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Sequence[Draw]], texts_NK: Conditions
    ) -> list[float]:
        """Loss of each adapter on its held-out draws, those of one shape and number together."""
        held = [(adapter, draw) for adapter, own in enumerate(draws) for draw in own]
        losses = [0.0] * len(draws)
        for places in alike([draw.kind for _, draw in held]):
            adapters = [held[place][0] for place in places]
            found = self._held_out(
                stack, weights_NP[adapters], [held[i][1] for i in places], _rows_of(texts_NK, adapters)
            )
            for adapter, loss in zip(adapters, found, strict=True):
                losses[adapter] += loss
        return losses

    def _held_out(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_NK: Conditions
    ) -> list[float]:
        """What draws of one shape and number are of each adapter's loss."""

        def losses_of(rows: slice) -> list[float]:
            def passed(batch: Batch) -> torch.Tensor:
                with stack.using(weights_NP[rows]):
                    predicted = self.denoiser(batch.noisy, batch.times, batch.conditions)
                return batch.losses(predicted, None)[0]

            texts, own = _rows_of(texts_NK, rows), len(draws[0].levels)
            parts = self._batches(draws[rows], texts, own, passed, self.config.validation_samples)
            return torch.stack(parts).sum(0).tolist()  # type: ignore[no-any-return]

        return [loss for part in self.rows(len(draws), losses_of) for loss in part]

    def fitting(self, stack: StackedAdapters, draw: Draw, texts_K: Conditions) -> int:
        """How many adapters memory holds at once, from what one adapter's pass keeps for its backward pass."""
        frozen = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in frozen:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        weights = torch.zeros(1, stack.size, dtype=self.master, device=self.denoiser.network.device)
        texts_1K = mapped(lambda value: value.unsqueeze(0), texts_K)

        def once() -> object:
            kept.clear()  # of an attempt that memory did not hold
            return self._part(stack, weights, [draw], texts_1K)

        torch.cuda.empty_cache()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._with_room(once)
        on_gpu = weights.device.type == "cuda"
        free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
        each = sum(kept.values()) + 6 * weights.nbytes
        return max(1, min(MOST_AT_ONCE, int(free * MEMORY_SHARE * self.memory_share / each)))


def compiled_for(network: Any, how: Compiling | None) -> tuple[Compiled | None, int]:
    """A trainer's ``compiled`` and ``rows``: None where there is no GPU, or nothing is to be compiled.

    All passes have one shape, so none is compiled for several. The network is compiled as a whole: blocks would be
    compiled in its other passes, too, the teacher's and those of held-out images, which have other shapes.
    """
    if how is None or network.device.type != "cuda":
        return None, MOST_AT_ONCE
    mode = "reduce-overhead" if how.graphs else None
    return Compiled(network, dynamic=False, mode=mode), how.rows


def alike(kinds: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """The places of equal kinds together, in the order in which kinds first come."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return list(places.values())


def _rows_of(texts_NK: Conditions, rows: slice | list[int]) -> Conditions:
    return mapped(lambda value: value[rows], texts_NK)

"""``parameters: full``, the whole network of one cluster, on one worker or data parallel on several.

The heavy variant of the paper (arXiv 2511.08711; DreamBooth: arXiv 2208.12242). Every worker makes the same draws
and takes its share of them, so the result does not depend on their number beyond rounding.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fairsynth.config import FinetuneConfig
from fairsynth.models.data_parallel import Ranks
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions, in_format, mapped, stacked
from fairsynth.models.memory import Parts
from fairsynth.models.state_files import read_state, write_state
from fairsynth.stages.finetune.denoising import EXPLODED, Batch, Draw, Latents, Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import Progress, Trained

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class FullState:
    """A checkpoint on the CPU: progress, and ``weights.*``, ``first.*``, ``second.*``, ``best.*`` by parameter."""

    progress: Progress
    tensors: Tensors


class FullTrainer:
    """Trains all weights of a network on one cluster after another; in between the network is the base again."""

    def __init__(
        self,
        denoiser: Denoiser,
        config: FinetuneConfig,
        texts: Mapping[str, Conditions],
        ranks: Ranks | None = None,
    ) -> None:
        # bfloat16 would lose small updates: the weights are float32, the products have the base's format.
        network = denoiser.network
        self.low = network.dtype if network.dtype == torch.bfloat16 else None
        self.denoiser, self.config, self.texts, self.ranks = denoiser, config, texts, ranks or Ranks()
        self.teacher = copy.deepcopy(network).requires_grad_(False) if self._taught else None
        self.network = network.float() if self.low else network
        ways = "give it a GPU with more, set models.dtype to bfloat16, or train adapters (finetune.parameters adapter)"
        self.samples = Parts("one sample of a step that trains all weights", ways)
        self.base = {name: value.detach().cpu().clone() for name, value in self.network.named_parameters()}

    @property
    def _taught(self) -> bool:
        return self.config.prior_size > 0 and self.config.prior == "teacher"

    def train(
        self,
        job: AdapterJob,
        latents: Latents,
        resume: FullState | None = None,
        checkpoint: Callable[[FullState], None] | None = None,
        notice: Callable[[], bool] = lambda: False,
        told: Callable[[Mapping[str, float]], None] = lambda shares: None,
    ) -> Trained:
        """Train one cluster; the result's weights are the network's state. Resumed, it ends as if never stopped.

        Of several data-parallel workers, the state of rank 0 counts.
        """
        resume = self._of_rank_0(resume)
        self.network.requires_grad_(True)
        noticed = False
        best: Tensors | None = None if resume is None else _part(resume.tensors, "best") or None
        progress = Progress(job.name) if resume is None else resume.progress.copy()
        optimizer = self._start(
            job, progress, self.base if resume is None else _part(resume.tensors, "weights"), resume
        )
        sampler, device = Sampler(latents, job.seed, self.config, self.denoiser.noise), self.network.device
        texts = stacked([stacked([self.texts[job.prompt], self.texts[job.class_prompt]])])
        texts = mapped(lambda value: value.to(device), texts)
        try:
            while not progress.done(job, self.config.patience):
                fault = self._step(job, progress, optimizer, sampler(progress.step, progress.attempt), texts)
                if not fault and sampler.held and progress.validation_due(job, self.config.validate_every):
                    fault, best = self._validate(job, progress, sampler, texts, best)
                if fault and progress.attempt:
                    return Trained(job, progress, None, f"{progress.fault}; again {fault}")
                if fault:
                    progress = progress.rolled_back(fault)
                    optimizer = self._start(job, progress, best or self.base)
                    continue
                told({job.name: progress.step / job.steps})
                warned = not noticed and notice()
                noticed |= warned
                due = progress.step % self.config.checkpoint_every == 0 and progress.step < job.steps
                if checkpoint and (warned or due):
                    checkpoint(self._state(progress, optimizer, best))
            return Trained(job, progress, best or self._weights())
        finally:
            self._load(self.base)
            self.network.requires_grad_(False)

    def _start(
        self, job: AdapterJob, progress: Progress, weights: Tensors, state: FullState | None = None
    ) -> torch.optim.AdamW:
        """Set the weights; returns an optimizer with the state's moments, or zero ones."""
        self._load(weights)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=job.learning_rate, weight_decay=self.config.weight_decay
        )
        if state is not None:
            first, second = (_part(state.tensors, part) for part in ("first", "second"))
            for name, parameter in self.network.named_parameters():
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step - progress.since)),
                    "exp_avg": first[name].to(parameter, copy=True),
                    "exp_avg_sq": second[name].to(parameter, copy=True),
                }
        return optimizer

    def _step(
        self, job: AdapterJob, progress: Progress, optimizer: torch.optim.AdamW, draw: Draw, texts: Conditions
    ) -> str:
        """One step; returns its fault, empty if none."""
        own = self.config.batch_size
        places = [
            i for i in range(len(draw.levels)) if (i if i < own else i - own) % self.ranks.world == self.ranks.rank
        ]

        def passed(some: slice) -> torch.Tensor:
            """Add some samples' gradients to the others'; returns their part of the loss, and of that of predicting nothing."""
            if not some.start:
                optimizer.zero_grad()
            part, own_there = draw.part(places[some], own)
            totals = (own, max(1, len(draw.levels) - own))
            losses, powers = self._losses(
                Batch(self.denoiser.noise, self.config, [part], texts, own_there, self.network.dtype, totals)
            )
            losses.sum().backward()
            return torch.stack([losses.detach()[0], powers[0]])

        # Gradients may be half added when memory runs out: then all begins anew.
        sums = torch.stack(self.samples(len(places), passed, afresh=True)).sum(0)
        self.ranks.sum(sums)
        self.ranks.sum_gradients(part for part in self.network.parameters() if part.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        progress.step += 1
        loss, power = sums.tolist()
        if not (math.isfinite(norm.item()) and loss <= EXPLODED * power):
            return _fault(loss, job, progress)
        if progress.loss_due(job):
            progress.losses.append((progress.step, loss))
        optimizer.param_groups[0]["lr"] = progress.rate(job, progress.step)
        optimizer.step()
        return "" if self._finite() else _fault(math.inf, job, progress)

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's losses, and those of predicting nothing; see ``Batch.losses``."""
        taught = None
        with torch.autocast(self.network.device.type, self.low, enabled=self.low is not None):
            if self.teacher is not None and batch.asked is not None:
                with torch.no_grad():
                    noisy, times, told = batch.asked
                    told = in_format(told, self.teacher.dtype, but=batch.facts)
                    taught = self.denoiser(noisy.to(self.teacher.dtype), times, told, self.teacher)
            predicted = self.denoiser(batch.noisy, batch.times, batch.conditions, self.network)
        return batch.losses(predicted, taught)

    @torch.no_grad()
    def _finite(self) -> bool:
        return math.isfinite(torch.nn.utils.get_total_norm(list(self.network.parameters())).item())

    def agreed(self, answer: bool) -> bool:
        """Rank 0's answer, on every worker: all must take the same branch, or they wait for each other forever."""
        return bool(self.ranks.agreed(int(answer)))

    def _of_rank_0(self, state: FullState | None) -> FullState | None:
        """Rank 0's state on every worker: on a shared disk the others may have read an older one, or none."""
        if self.ranks.world == 1:
            return state
        sends, device = self.ranks.rank == 0 and state is not None, self.network.device
        header = b""
        if sends and state is not None:
            shapes = {name: list(value.shape) for name, value in state.tensors.items()}
            header = json.dumps({"progress": asdict(state.progress), "shapes": shapes}).encode()
        size = torch.tensor([len(header)], device=device)
        self.ranks.sum(size)
        if not size.item():
            return None
        text = torch.tensor(list(header) if sends else [0] * int(size.item()), dtype=torch.int32, device=device)
        self.ranks.sum(text)
        facts = json.loads(bytes(text.tolist()))
        tensors = {}
        for name, shape in facts["shapes"].items():
            value = (
                state.tensors[name].to(device, copy=True)
                if sends and state
                else torch.zeros(shape, dtype=self.network.dtype, device=device)
            )
            self.ranks.sum(value)
            tensors[name] = value.cpu()
        return FullState(_progress(facts["progress"]), tensors)

    @torch.no_grad()
    def _validate(
        self, job: AdapterJob, progress: Progress, sampler: Sampler, texts: Conditions, best: Tensors | None
    ) -> tuple[str, Tensors | None]:
        """Validate the weights on held-out images; returns their fault, empty if none, and the best so far."""
        own = self.config.validation_samples

        def losses_of(draw: Draw, some: slice) -> torch.Tensor:
            part, own_there = draw.part(range(len(draw.levels))[some], own)
            batch = Batch(self.denoiser.noise, self.config, [part], texts, own_there, self.network.dtype, (own, 1))
            with torch.autocast(self.network.device.type, self.low, enabled=self.low is not None):
                predicted = self.denoiser(batch.noisy, batch.times, batch.conditions, self.network)
            return batch.losses(predicted, None)[0]

        draws = sampler.held_out()
        found = [loss for draw in draws for loss in self.samples(len(draw.levels), partial(losses_of, draw))]
        losses = torch.stack(found).sum(0)
        self.ranks.sum(losses)
        loss = losses.item() / self.ranks.world
        if not math.isfinite(loss):
            return _fault(loss, job, progress), best
        progress.validation.append((progress.step, loss))
        return "", self._weights() if progress.best_step == progress.step else best

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.network.named_parameters()}

    @torch.no_grad()
    def _load(self, weights: Tensors) -> None:
        for name, parameter in self.network.named_parameters():
            parameter.copy_(weights[name])

    def _state(self, progress: Progress, optimizer: torch.optim.AdamW, best: Tensors | None) -> FullState:
        tensors = {f"weights.{name}": value for name, value in self._weights().items()}
        for name, parameter in self.network.named_parameters():
            moments = optimizer.state[parameter]
            tensors[f"first.{name}"] = moments["exp_avg"].cpu().clone()
            tensors[f"second.{name}"] = moments["exp_avg_sq"].cpu().clone()
        tensors |= {f"best.{name}": value for name, value in (best or {}).items()}
        return FullState(progress.copy(), tensors)


def _fault(loss: float, job: AdapterJob, progress: Progress) -> str:
    return f"loss {loss:.3g} at step {progress.step}, learning rate {progress.rate(job, progress.step):.3g}"


def _part(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def save_full(state: FullState, path: Path) -> None:
    """Write a checkpoint."""
    write_state(path, state.tensors, {"progress": asdict(state.progress)})


def load_full(path: Path) -> FullState | None:
    """Read a checkpoint; None if it is missing."""
    if (found := read_state(path)) is None:
        return None
    facts, tensors = found
    return FullState(_progress(facts["progress"]), tensors)


def _progress(facts: Mapping[str, Any]) -> Progress:
    points = {key: [tuple(point) for point in facts.get(key, ())] for key in ("validation", "losses")}
    return Progress(**{**facts, **points})

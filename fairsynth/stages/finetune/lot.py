"""A lot of adapters in training, from the first step to the last.

A lot is a queue: some of its adapters train at a time, as rows of matrices, and where one ends the next takes its
place. What an adapter becomes depends on its images, prompts and seed: never on the adapters beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from fairsynth.config import FinetuneConfig
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions, mapped, stacked
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.finetune.denoising import EXPLODED, Draw, Latents, Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import LotState, Progress, Row, Trained
from fairsynth.stages.finetune.stacked_adamw import StackedAdamW

# Steps between looks at the losses on a GPU: for a look the host waits for the device.
GPU_LOOKS_EVERY = 8


class Passes(Protocol):
    """What a lot needs of its trainer: the model, its training data, and passes through it."""

    denoiser: Denoiser
    config: FinetuneConfig
    texts: Mapping[str, Conditions]
    load: Callable[[AdapterJob], Latents]
    width: int | None
    master: torch.dtype

    def step_gradient(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_NK: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, loss of predicting nothing, (N,) each, and gradient (N, P) of adapters on their draws."""

    def validation_losses(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Sequence[Draw]], texts_NK: Conditions
    ) -> list[float]:
        """Loss of each adapter on its held-out draws."""

    def fitting(self, stack: StackedAdapters, draw: Draw, texts_K: Conditions) -> int:
        """How many adapters memory holds at once."""


@dataclass
class _Slot:
    """One adapter in training."""

    job: AdapterJob
    sampler: Sampler
    texts_K: Conditions
    progress: Progress


class Lot:
    """The adapters of one call of ``StackedTrainer.train``: those in training, those that wait, those that ended."""

    def __init__(
        self,
        trainer: Passes,
        stack: StackedAdapters,
        jobs: Sequence[AdapterJob],
        ended: Callable[[Trained], None],
        resume: LotState | None,
        begun: Mapping[str, Row],
        checkpoint: Callable[[LotState], None] | None,
        notice: Callable[[], bool],
        told: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.trainer, self.stack, self.config = trainer, stack, trainer.config
        self.report, self.begun, self.checkpoint, self.notice, self.told = ended, begun, checkpoint, notice, told
        # The longest first, so that the last to end are short and the batch stays full for longer.
        self.waiting = sorted(jobs, key=lambda job: (-job.steps, job.name))
        self.noticed, self.ended, self.steps = False, list[str](), 0
        self.slots: list[_Slot] = []
        device = trainer.denoiser.network.device
        self.looks_every = GPU_LOOKS_EVERY if device.type == "cuda" else 1
        empty = [torch.zeros(0, stack.size, dtype=trainer.master, device=device) for _ in range(3)]
        self.weights, self.adamw = empty[0], StackedAdamW(empty[1], empty[2], torch.zeros(0, device=device))
        # Loss of the first faulty step, and its number among the lot's steps; 0 without a fault.
        self.bad_loss = torch.zeros(0, dtype=trainer.master, device=device)
        self.bad_step = torch.zeros(0, dtype=torch.int64, device=device)
        self._texts: Conditions | None = None
        if resume is not None:
            self._restore(resume)
        elif checkpoint is not None:
            # This state says that nothing has ended yet: a lot that is killed early starts again with the same rows.
            checkpoint(self._state([]))

    def run(self) -> None:
        """Step until every adapter has ended."""
        self._fill()
        while self.slots:
            self._step()
            if self.steps % self.looks_every == 0 or any(self._done(s) or self._validation_due(s) for s in self.slots):
                self._look()
            self._validate()
            self._end()
            self.told({slot.job.name: slot.progress.step / slot.job.steps for slot in self.slots})
            self._save()
            self._fill()

    @property
    def texts_NK(self) -> Conditions:
        """What the network is told of the prompts of every row, (N, K, …) each."""
        if self._texts is None:
            self._texts = stacked([slot.texts_K for slot in self.slots])
        return self._texts

    def _step(self) -> None:
        draws = [slot.sampler(slot.progress.step, slot.progress.attempt) for slot in self.slots]
        losses, powers, gradients = self.trainer.step_gradient(self.stack, self.weights, draws, self.texts_NK)
        rates = [slot.progress.rate(slot.job, slot.progress.step + 1) for slot in self.slots]
        norms = self.adamw.step(self.weights, gradients, rates, self.config.weight_decay, self.config.max_grad_norm)
        self.steps += 1
        now = (self.bad_step == 0) & ~(torch.isfinite(norms) & (losses <= EXPLODED * powers))
        self.bad_step, self.bad_loss = (
            torch.where(now, self.steps, self.bad_step),
            torch.where(now, losses, self.bad_loss),
        )
        for slot in self.slots:
            slot.progress.step += 1
        for index, slot in enumerate(self.slots):
            # Each is a wait for the device, some fifty times in all.
            if slot.progress.loss_due(slot.job) and math.isfinite(loss := float(losses[index])):
                slot.progress.losses.append((slot.progress.step, loss))

    def _look(self) -> None:
        """Roll back the adapters with a bad loss, gradient or weights; those rolled back before fail."""
        # The norm is not finite if a weight is not, and costs a tenth of looking at each.
        wrong = (self.bad_step == 0) & ~torch.isfinite(torch.linalg.vector_norm(self.weights, dim=1))
        self.bad_step, self.bad_loss = (
            torch.where(wrong, self.steps, self.bad_step),
            torch.where(wrong, math.inf, self.bad_loss),
        )
        for index in reversed(self.bad_step.nonzero().flatten().tolist()):
            slot = self.slots[index]
            step = slot.progress.step - (self.steps - int(self.bad_step[index]))
            rate = slot.progress.rate(slot.job, step)
            fault = f"loss {self.bad_loss[index].item():.3g} at step {step}, learning rate {rate:.3g}"
            if slot.progress.attempt:
                self._drop(index, Trained(slot.job, slot.progress, None, f"{slot.progress.fault}; again {fault}"))
            else:
                self._put(index, self._start(slot.job, slot.progress.rolled_back(fault)))

    def _validate(self) -> None:
        due = [index for index, slot in enumerate(self.slots) if self._validation_due(slot)]
        if not due:
            return
        draws = [self.slots[index].sampler.held_out() for index in due]
        texts = mapped(lambda value: value[due], self.texts_NK)
        losses = self.trainer.validation_losses(self.stack, self.weights[due], draws, texts)
        for index, loss in zip(due, losses, strict=True):
            progress = self.slots[index].progress
            if not math.isfinite(loss):
                self.bad_step[index], self.bad_loss[index] = self.steps, loss
                continue
            progress.validation.append((progress.step, loss))
            if progress.best_step == progress.step:
                progress.best = self.weights[index].cpu().clone()
        self._look()

    def _validation_due(self, slot: _Slot) -> bool:
        return bool(slot.sampler.held) and slot.progress.validation_due(slot.job, self.config.validate_every)

    def _done(self, slot: _Slot) -> bool:
        return slot.progress.done(slot.job, self.config.patience)

    def _end(self) -> None:
        """Hand over the finished adapters: the best state where it is known, else the last."""
        for index in reversed([index for index, slot in enumerate(self.slots) if self._done(slot)]):
            slot = self.slots[index]
            best = slot.progress.best if slot.progress.best is not None else self.weights[index].cpu()
            self._drop(index, Trained(slot.job, slot.progress, self.stack.state(best)))

    def _drop(self, index: int, result: Trained) -> None:
        self.report(result)
        self.ended.append(result.job.name)
        keep = [row for row in range(len(self.slots)) if row != index]
        del self.slots[index]
        self._rows(lambda part: part[keep])

    def _fill(self) -> None:
        """Fill free places with waiting adapters."""
        while self.waiting and (not self.slots or len(self.slots) < self._width()):
            job = self.waiting.pop(0)
            self._add(job, self.begun.get(job.name) or self._start(job, Progress(job.name)))

    def _width(self) -> int:
        if self.trainer.width is None:
            slot = self.slots[0]
            self.trainer.width = self.trainer.fitting(self.stack, slot.sampler(0), slot.texts_K)
        return self.trainer.width

    def _add(self, job: AdapterJob, row: Row) -> None:
        sampler = Sampler(self.trainer.load(job), job.seed, self.config, self.trainer.denoiser.noise, job.kinds)
        texts = stacked([self.trainer.texts[prompt] for prompt in job.texts])
        self._rows(lambda part: torch.cat([part, part.new_zeros(1, *part.shape[1:])]))
        self.slots.append(_Slot(job, sampler, mapped(lambda value: value.to(self.weights.device), texts), row.progress))
        self._put(len(self.slots) - 1, row)

    def _start(self, job: AdapterJob, progress: Progress) -> Row:
        """An adapter whose moments are zero: at its best state if it has one, else fresh."""
        zeros = torch.zeros(self.stack.size)
        return Row(progress, self.stack.initial(job.seed) if progress.best is None else progress.best, zeros, zeros)

    def _put(self, index: int, row: Row) -> None:
        """Set a row of the matrices to a state of its adapter."""
        self.slots[index].progress = row.progress.copy()
        self.weights[index] = row.weights.to(self.weights)
        self.adamw.first_NP[index], self.adamw.second_NP[index] = (
            row.first.to(self.weights),
            row.second.to(self.weights),
        )
        self.adamw.steps_N[index] = row.progress.step - row.progress.since
        self.bad_step[index], self.bad_loss[index] = 0, 0

    def _rows(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace the rows of every matrix alike."""
        self._texts, adamw = None, self.adamw
        self.weights, self.bad_step, self.bad_loss = map(change, (self.weights, self.bad_step, self.bad_loss))
        adamw.first_NP, adamw.second_NP, adamw.steps_N = map(change, (adamw.first_NP, adamw.second_NP, adamw.steps_N))

    def _save(self) -> None:
        """Checkpoint when one is due, or when the machine is about to go."""
        warned = not self.noticed and self.notice()
        self.noticed |= warned
        if self.checkpoint is None or not (warned or self.steps % self.config.checkpoint_every == 0):
            return
        self._look()
        self.checkpoint(self._state([slot.progress.copy() for slot in self.slots]))

    def _state(self, rows: list[Progress]) -> LotState:
        """The lot's state, on the CPU."""
        first, second = self.adamw.first_NP, self.adamw.second_NP
        weights, first, second = (part.cpu().clone() for part in (self.weights, first, second))
        waiting = [job.name for job in self.waiting]
        return LotState(rows, list(self.ended), self.steps, weights, first, second, waiting, self.trainer.width)

    def _restore(self, state: LotState) -> None:
        """Take up the lot where a checkpoint left it, row for row."""
        jobs = {job.name: job for job in self.waiting}
        self.ended, self.steps = list(state.ended), state.steps
        self.trainer.width = self.trainer.width or state.width
        begun = [row.name for row in state.rows]
        self.waiting = [job for job in self.waiting if job.name not in {*begun, *state.ended}]
        for index, name in enumerate(begun):
            self._add(jobs[name], state.row(index))

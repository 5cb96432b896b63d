"""Stage 4, finetune: trains many adapters at once on one frozen UNet, each exactly as if it were alone.

A lot is a queue of adapters; ``width`` of them are in training together, and where one ends the next takes its
place. What an adapter becomes depends on its images, prompts and seed: never on the adapters beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import FinetuneConfig
from fairsynth.models.stacked import StackedAdapters, gradient
from fairsynth.models.stacked_adamw import StackedAdamW
from fairsynth.stages.denoising import EXPLODED, Batch, Draw, Latents, Sampler
from fairsynth.stages.lot_state import LotState, Progress

# On a GPU the host waits for the device when it looks at the losses, so it looks only so often.
GPU_LOOKS_EVERY = 8


@dataclass(frozen=True)
class Trained:
    """What became of one adapter: weights under peft's names, or the reason why it has none."""

    job: AdapterJob
    progress: Progress
    weights: Mapping[str, torch.Tensor] | None
    failure: str = ""


@dataclass
class _Slot:
    """One adapter in training."""

    job: AdapterJob
    sampler: Sampler
    texts_2TW: torch.Tensor
    progress: Progress

    @property
    def rate(self) -> float:
        """Learning rate of the next step; halved by every roll-back."""
        warm = min(1.0, (self.progress.step + 1) / max(1, self.job.warmup_steps))
        return self.job.learning_rate * warm * 0.5**self.progress.attempt


class StackedTrainer:
    """Trains the adapters of a lot on one UNet.

    ``texts`` maps every prompt to its embedding (T, W); ``load`` gives an adapter's latents when its turn comes.
    ``width``: adapters in training at once; ``chunk``: adapters in one forward pass, halved when memory runs out.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        config: FinetuneConfig,
        texts: Mapping[str, torch.Tensor],
        load: Callable[[AdapterJob], Latents],
        width: int = 16,
    ) -> None:
        self.unet, self.scheduler, self.config, self.texts, self.load = unet, scheduler, config, texts, load
        self.width = self.chunk = width
        self.master = torch.promote_types(unet.dtype, torch.float32)

    def train(
        self,
        jobs: Sequence[AdapterJob],
        ended: Callable[[Trained], None],
        resume: LotState | None = None,
        others: Mapping[str, Any] | None = None,
        checkpoint: Callable[[LotState], None] | None = None,
        notice: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train all jobs; ``ended`` gets each as it ends.

        ``resume`` is this lot's state: going on from it ends with the same bits as never having stopped.
        ``others`` are rows (``LotState.row``) of adapters that were begun in other lots. ``checkpoint`` gets the
        state every ``checkpoint_every`` steps and whenever ``notice`` turns true: the machine is about to go.
        """
        stack = StackedAdapters(self.unet, self.config.rank, self.config.alpha, self.config.target_modules)
        try:
            _Lot(self, stack, jobs, ended, resume, others or {}, checkpoint, notice).run()
        finally:
            stack.remove()

    def step_gradient(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_N2TW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, loss of predicting nothing, (N,) each, and gradient (N, P) of adapters on their draws."""
        while True:
            try:
                parts = [
                    self._part(stack, weights_NP[rows], draws[rows], texts_N2TW[rows])
                    for rows in _chunks(len(draws), self.chunk)
                ]
                losses, powers, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
                return losses, powers, gradients
            except torch.cuda.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk = math.ceil(self.chunk / 2)
                torch.cuda.empty_cache()

    def _part(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_N2TW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = Batch(self.scheduler, self.config, draws, texts_N2TW, self.config.batch_size, self.unet.dtype)
        taught = None
        if self.config.prior_size and self.config.prior == "teacher":
            mask = batch.taught
            with torch.no_grad():
                taught = self.unet(batch.noisy[mask], batch.times[mask], batch.texts[mask]).sample
        with stack.using(weights_NP) as leaves:
            losses, powers = batch.losses(self.unet(batch.noisy, batch.times, batch.texts).sample, taught)
            return losses.detach(), powers, gradient(losses, leaves)

    @torch.no_grad()
    def validation_losses(
        self, stack: StackedAdapters, weights_NP: torch.Tensor, draws: Sequence[Draw], texts_N2TW: torch.Tensor
    ) -> list[float]:
        """Loss of each adapter on its held-out draw."""
        found = []
        for rows in _chunks(len(draws), self.chunk):
            own = self.config.validation_samples
            batch = Batch(self.scheduler, self.config, draws[rows], texts_N2TW[rows], own, self.unet.dtype)
            with stack.using(weights_NP[rows]):
                predicted = self.unet(batch.noisy, batch.times, batch.texts).sample
            found += batch.losses(predicted, None)[0].tolist()
        return found


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, total, size)]


class _Lot:
    """The adapters of one call of ``train``: those in training as rows of matrices, those that wait, those that ended."""

    def __init__(
        self,
        trainer: StackedTrainer,
        stack: StackedAdapters,
        jobs: Sequence[AdapterJob],
        ended: Callable[[Trained], None],
        resume: LotState | None,
        others: Mapping[str, Any],
        checkpoint: Callable[[LotState], None] | None,
        notice: Callable[[], bool],
    ) -> None:
        self.trainer, self.stack, self.config = trainer, stack, trainer.config
        self.report, self.others, self.checkpoint, self.notice = ended, others, checkpoint, notice
        # The longest first: then the last to end are short, and the batch is full for longer.
        self.waiting = sorted(jobs, key=lambda job: (-job.steps, job.name))
        self.good, self.noticed, self.ended, self.steps = resume, False, [], 0
        self.slots: list[_Slot] = []
        device = trainer.unet.device
        self.looks_every = GPU_LOOKS_EVERY if device.type == "cuda" else 1
        empty = [torch.zeros(0, stack.size, dtype=trainer.master, device=device) for _ in range(3)]
        self.weights, self.adamw = empty[0], StackedAdamW(*empty[1:], torch.zeros(0, dtype=torch.float64, device=device))
        self.bad = torch.zeros(0, dtype=torch.bool, device=device)
        self.losses = torch.zeros(0, dtype=trainer.master, device=device)
        self.texts = torch.zeros(0)
        if resume is not None:
            self._restore(resume)

    def run(self) -> None:
        """Step until every adapter has ended."""
        self._fill()
        while self.slots:
            self._step()
            if self.steps % self.looks_every == 0 or any(self._done(slot) for slot in self.slots):
                self._look()
            self._validate()
            self._end()
            self._save()
            self._fill()

    def _step(self) -> None:
        if len(self.texts) != len(self.slots):
            self.texts = torch.stack([slot.texts_2TW for slot in self.slots])
        draws = [slot.sampler(slot.progress.step, slot.progress.attempt) for slot in self.slots]
        self.losses, powers, gradients = self.trainer.step_gradient(self.stack, self.weights, draws, self.texts)
        rates = torch.tensor([slot.rate for slot in self.slots], dtype=torch.float64, device=self.weights.device)
        norms = self.adamw.step(self.weights, gradients, rates, self.config.weight_decay, self.config.max_grad_norm)
        self.bad |= ~(torch.isfinite(norms) & (self.losses <= EXPLODED * powers))
        self.steps += 1
        for slot in self.slots:
            slot.progress.step += 1

    def _look(self) -> None:
        """Roll back the adapters whose loss, gradient or weights are no good; those that were before fail."""
        if any(self._done(slot) for slot in self.slots):
            self.bad |= ~torch.isfinite(self.weights).all(1)
        for index in reversed([index for index, bad in enumerate(self.bad.tolist()) if bad]):
            slot = self.slots[index]
            fault = f"loss {self.losses[index].item():.3g} at step {slot.progress.step}, learning rate {slot.rate:.3g}"
            if slot.progress.attempt:
                self._drop(index, Trained(slot.job, slot.progress, None, f"{slot.progress.fault}; again {fault}"))
                continue
            back = self.good.row(slot.job.name) if self.good is not None else None
            self._put(index, *(back or self._fresh(slot.job)))
            slot.progress.attempt, slot.progress.fault = 1, fault

    def _validate(self) -> None:
        every = self.config.validate_every
        due = [
            index
            for index, slot in enumerate(self.slots)
            if slot.sampler.held and slot.progress.step and (slot.progress.step % every == 0 or self._done(slot))
        ]
        due = [index for index in due if not self._validated(self.slots[index])]
        if not due:
            return
        draws = [self.slots[index].sampler.held_out() for index in due]
        found = self.trainer.validation_losses(self.stack, self.weights[due], draws, self.texts[due])
        for index, loss in zip(due, found, strict=True):
            progress = self.slots[index].progress
            progress.validation.append((progress.step, loss if math.isfinite(loss) else math.inf))
            if progress.best_step == progress.step:
                progress.best = self.weights[index].cpu().clone()

    def _validated(self, slot: _Slot) -> bool:
        return bool(slot.progress.validation) and slot.progress.validation[-1][0] == slot.progress.step

    def _done(self, slot: _Slot) -> bool:
        """All steps done, or no better on held-out images for ``patience`` validations."""
        patience = self.config.patience
        return slot.progress.step >= slot.job.steps or (patience is not None and slot.progress.waited >= patience)

    def _end(self) -> None:
        """Hand over the adapters that are done: the best state where it is known, else the last."""
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
        """Let those that wait take the free places."""
        new = []
        while self.waiting and len(self.slots) + len(new) < self.trainer.width:
            new.append(self.waiting.pop(0))
        for job in new:
            self._rows(lambda part: torch.cat([part, part.new_zeros(1, *part.shape[1:])]))
            self.slots.append(self._slot(job))
            self._put(len(self.slots) - 1, *(self.others.get(job.name) or self._fresh(job)))

    def _slot(self, job: AdapterJob) -> _Slot:
        steps = self.trainer.scheduler.config.num_train_timesteps
        sampler = Sampler(self.trainer.load(job), job.seed, self.config, steps)
        texts = torch.stack([self.trainer.texts[prompt] for prompt in (job.prompt, job.class_prompt)])
        return _Slot(job, sampler, texts.to(self.weights.device), Progress(job.name))

    def _fresh(self, job: AdapterJob) -> tuple[Progress, torch.Tensor, torch.Tensor, torch.Tensor]:
        zeros = torch.zeros(self.stack.size)
        return Progress(job.name), self.stack.initial(job.seed), zeros, zeros

    def _put(self, index: int, progress: Progress, *rows: torch.Tensor) -> None:
        """Set a row of the matrices to a state of its adapter."""
        self.slots[index].progress = progress
        for matrix, row in zip((self.weights, self.adamw.first_NP, self.adamw.second_NP), rows, strict=True):
            matrix[index] = row.to(matrix)
        self.adamw.steps_N[index] = progress.step
        self.bad[index] = False

    def _rows(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Change which rows there are, in every matrix alike."""
        self.texts, adamw = self.texts[:0], self.adamw
        self.weights, self.bad, self.losses = change(self.weights), change(self.bad), change(self.losses)
        adamw.first_NP, adamw.second_NP, adamw.steps_N = map(change, (adamw.first_NP, adamw.second_NP, adamw.steps_N))

    def _save(self) -> None:
        """Checkpoint when it is time, or when the machine is about to go."""
        warned = not self.noticed and self.notice()
        self.noticed |= warned
        if not self.slots or not (warned or self.steps % self.config.checkpoint_every == 0):
            return
        self._look()
        rows = [slot.progress.copy() for slot in self.slots]
        matrices = (self.weights, self.adamw.first_NP, self.adamw.second_NP)
        self.good = LotState(*(m.cpu().clone() for m in matrices), rows, list(self.ended), self.steps)
        if self.checkpoint:
            self.checkpoint(self.good)

    def _restore(self, state: LotState) -> None:
        """Take up the lot where a checkpoint left it, row for row."""
        jobs = {job.name: job for job in self.waiting}
        self.ended, self.steps = list(state.ended), state.steps
        begun = [row.name for row in state.rows]
        self.waiting = [job for job in self.waiting if job.name not in {*begun, *state.ended}]
        for name in begun:
            self._rows(lambda part: torch.cat([part, part.new_zeros(1, *part.shape[1:])]))
            self.slots.append(self._slot(jobs[name]))
            found = state.row(name)
            assert found is not None
            self._put(len(self.slots) - 1, *found)

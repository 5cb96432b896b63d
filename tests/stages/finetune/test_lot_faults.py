"""An adapter whose loss explodes starts again once, or fails alone with a diagnosis; its mates never notice."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.config import FinetuneConfig
from fairsynth.stages.finetune.denoising import Latents
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot import Lot
from fairsynth.stages.finetune.lot_state import LotState, Progress, Row, Trained
from tests.support.lots import (
    CONFIG,
    VALIDATING,
    break_once,
    changed,
    difference,
    furthest_apart,
    jobs,
    latents_of,
    progress_facts,
    row_of,
    stack_of,
    tiny_unet,
    train,
)

# Training of the last layer alone, which no normalization follows: its loss does explode.
LAST_LAYER = CONFIG.model_copy(update={"target_modules": ("conv_out",), "prior_weight": 0.0, "batch_size": 4})
STEPS = [7, 6, 5, 7]


def watched(
    work: list[AdapterJob], config: FinetuneConfig, width: int = 8, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[dict[str, Trained], list[LotState]]:
    """Train with a checkpoint at every step: none holds a number that is not finite."""
    states: list[LotState] = []
    every_step = config.model_copy(update={"checkpoint_every": 1})
    found = train(tiny_unet(dtype), work, every_step, width, checkpoint=states.append, **options)
    for state in states:
        best = [row.best for row in state.rows if row.best is not None]
        for part in (state.weights_NP, state.first_NP, state.second_NP, *best):
            assert torch.isfinite(part).all(), state.steps
    assert len(states) > 1
    return found, states


def spoilt(bad: AdapterJob) -> Any:
    """Latents of which one adapter's are not numbers."""

    def load(job: AdapterJob) -> Latents:
        latents = latents_of(job)
        return replace(latents, mean=latents.mean * np.float32("nan")) if job == bad else latents

    return load


# Fault case 43: losses that are no numbers.
@pytest.mark.parametrize("width", [8, 2])
@pytest.mark.parametrize("config", [CONFIG, VALIDATING], ids=["last", "best"])
def test_an_adapter_of_broken_latents_fails_alone(config: FinetuneConfig, width: int) -> None:
    work = jobs(STEPS)
    bad = work[1]
    found, states = watched(work, config, width, load=spoilt(bad))
    failed = found.pop(bad.name)
    assert failed.weights is None and failed.progress.attempt == 1
    # 0.002, of which the warm-up allows a fifth at the first step; then half of it.
    assert failed.failure == (
        "loss nan at step 1, learning rate 0.0004; again loss nan at step 1, learning rate 0.0002"
    )
    assert bad.name in states[-1].ended and bad.name not in [row.name for row in states[-1].rows]
    assert furthest_apart(found, train(tiny_unet(torch.float64), [work[0], *work[2:]], config, width)) <= 1e-12


def test_where_all_fail_the_lot_still_ends() -> None:
    found, _ = watched(jobs([3, 3]), CONFIG, load=lambda job: spoilt(job)(job))
    assert [result.weights for result in found.values()] == [None, None]


def test_weights_beyond_all_numbers_are_in_no_checkpoint_and_no_result() -> None:
    work = jobs([4, 4])
    work[0] = changed(work[0], learning_rate=float("inf"))
    found, _ = watched(work, CONFIG, dtype=torch.float32)
    assert found[work[0].name].failure.startswith("loss inf at step 1, learning rate inf; again")
    assert found[work[1].name].weights is not None


def test_half_the_learning_rate_saves_an_adapter_that_explodes() -> None:
    (calm, fast, wild, _) = (changed(job, steps=12, warmup_steps=0) for job in jobs(STEPS))
    work = [calm, changed(fast, learning_rate=0.5), changed(wild, learning_rate=5.0)]
    found, _ = watched(work, LAST_LAYER)
    first, second, third = (found[job.name] for job in work)
    assert first.progress.attempt == 0 and first.progress.fault == "" and first.weights is not None
    assert second.progress.attempt == 1 and second.progress.step == 12 and second.weights is not None
    assert re.fullmatch(r"loss [\d.]+ at step [234], learning rate 0\.5", second.progress.fault)
    assert not second.failure
    assert third.weights is None
    assert re.fullmatch(
        r"loss [\d.e+]+ at step 2, learning rate 5; again loss [\d.e+]+ at step 2, learning rate 2\.5", third.failure
    )


def second_start(job: AdapterJob, at: Row | None = None) -> Row:
    """An adapter at the beginning of its second attempt, made by hand: at a validated state, or at the beginning."""
    stack = stack_of(tiny_unet())
    zeros = torch.zeros(stack.size)
    if at is None:
        return Row(Progress(job.name, attempt=1), stack.initial(job.seed), zeros, zeros)
    step = at.progress.step
    again = Progress(job.name, step, 1, step, "", list(at.progress.validation), at.weights.clone())
    return Row(again, at.weights, zeros, zeros)


def test_without_a_validated_state_an_adapter_starts_again_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    work = jobs(STEPS)
    by_hand = train(tiny_unet(torch.float64), work[:1], CONFIG, begun={work[0].name: second_start(work[0])})
    undisturbed = train(tiny_unet(torch.float64), work, CONFIG)
    break_once(monkeypatch, work, {0: 4})
    found, _ = watched(work, CONFIG)
    again = found[work[0].name]
    assert progress_facts(again.progress)[1:5] == (7, 1, 0, "loss nan at step 5, learning rate 0.001")
    assert difference(again.weights, by_hand[work[0].name].weights) <= 1e-9
    assert difference(again.weights, undisturbed[work[0].name].weights) > 1e-3, "other draws, half the rate"
    assert all(difference(found[job.name].weights, undisturbed[job.name].weights) <= 1e-12 for job in work[1:])


def test_with_a_validated_state_an_adapter_goes_on_from_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    work = [changed(job, learning_rate=0.1) for job in jobs([9, 9, 9, 9])]
    undisturbed, states = watched(work, VALIDATING)
    break_once(monkeypatch, work, dict.fromkeys(range(4), 7))
    found, _ = watched(work, VALIDATING)
    starts = set()
    for job in work:
        validated = [point for point in undisturbed[job.name].progress.validation if point[0] <= 7]
        best = min(validated, key=lambda point: point[1])[0]
        starts.add(best)
        row = second_start(job, row_of(states[best], job.name))
        by_hand = train(tiny_unet(torch.float64), [job], VALIDATING, begun={job.name: row})[job.name]
        again = found[job.name]
        assert again.progress.attempt == 1 and again.progress.since == best and again.progress.step == 9
        assert difference(again.weights, by_hand.weights) <= 1e-9
        losses, kept = dict(again.progress.validation), {step: loss for step, loss in validated if step <= best}
        assert losses == pytest.approx(dict(by_hand.progress.validation), rel=1e-9)
        assert {step: loss for step, loss in losses.items() if step <= best} == pytest.approx(kept, rel=1e-9)
    assert starts & {2, 4} and 6 in starts, f"some had to go back further than the last validation: {starts}"


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, VALIDATING], ids=["last", "best"])
def test_a_second_attempt_depends_on_no_mate_and_no_checkpoint(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = jobs(STEPS)
    break_once(monkeypatch, work, {0: 5, 2: 3})
    expected, _ = watched(work, config)
    assert [result.progress.attempt for _, result in sorted(expected.items())] == [1, 0, 1, 0]
    alone = train(tiny_unet(torch.float64), work[:1], config)
    assert difference(alone[work[0].name].weights, expected[work[0].name].weights) <= 1e-9
    for every, width in ((1000, 8), (3, 2), (2, 1)):
        rare = config.model_copy(update={"checkpoint_every": every})
        found = train(tiny_unet(torch.float64), work, rare, width, checkpoint=lambda state: None)
        assert furthest_apart(found, expected) <= 1e-9
        assert all(
            progress_facts(found[name].progress)[:5] == progress_facts(expected[name].progress)[:5] for name in found
        )


@pytest.mark.parametrize("config", [CONFIG, VALIDATING], ids=["last", "best"])
def test_looking_at_the_losses_now_and_then_as_on_a_gpu_changes_nothing(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = jobs([14, 6, 13, 9])
    break_once(monkeypatch, work, {0: 2, 2: 4})
    load, unet, states = spoilt(work[3]), tiny_unet(torch.float64), list[LotState]()
    expected = train(unet, work, config, load=load)
    plain, looks = Lot.run, list[int]()

    def run(self: Lot) -> None:
        self.looks_every = 8
        look = self._look
        self._look = lambda: (looks.append(self.steps), look())[1]  # type: ignore[method-assign, assignment, func-returns-value]
        plain(self)

    monkeypatch.setattr(Lot, "run", run)
    rare = config.model_copy(update={"checkpoint_every": 3})
    found = train(unet, work, rare, load=load, checkpoint=states.append)
    assert 1 not in looks and 3 in looks, "it looks where it must, not at every step"
    assert all(torch.isfinite(state.weights_NP).all() and torch.isfinite(state.first_NP).all() for state in states)
    failed, as_failed = (results.pop(work[3].name) for results in (found, expected))
    assert failed.failure == as_failed.failure and failed.weights is None
    assert furthest_apart(found, expected) <= 1e-9
    assert all(
        progress_facts(found[name].progress)[:5] == progress_facts(expected[name].progress)[:5] for name in found
    )

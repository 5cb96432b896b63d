"""What an adapter becomes depends on no mate, no order, no kill: lots are cut, filled, stopped and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fairsynth.config import FinetuneConfig
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import LotState, Trained, adopted, load_state, save_state
from tests.support.lots import (
    CONFIG,
    VALIDATING,
    Passes,
    break_once,
    furthest_apart,
    jobs,
    latents_of,
    progress_facts,
    recorded_losses,
    run,
    same_bits,
    tiny_unet,
    train,
    trainer_of,
)

STEPS = [7, 3, 6, 5, 2, 7, 4, 6]


@pytest.fixture(scope="module")
def whole_lot() -> dict[str, Trained]:
    """All jobs in one pass."""
    return train(tiny_unet(torch.float64), jobs(STEPS), VALIDATING)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3, 7])
def test_how_many_train_at_a_time_changes_nothing(whole_lot: dict[str, Trained], width: int) -> None:
    found = train(tiny_unet(torch.float64), jobs(STEPS), VALIDATING, width)
    assert furthest_apart(found, whole_lot) <= 1e-9
    assert all(found[name].progress.best_step == whole_lot[name].progress.best_step for name in found)


def test_the_order_of_the_jobs_changes_nothing(whole_lot: dict[str, Trained]) -> None:
    found = train(tiny_unet(torch.float64), jobs(STEPS)[::-1], VALIDATING, 3)
    assert furthest_apart(found, whole_lot) <= 1e-9


@pytest.mark.parametrize("cut", [1, 4])
def test_which_jobs_share_a_lot_changes_nothing(whole_lot: dict[str, Trained], cut: int) -> None:
    work = jobs(STEPS)
    trainer = trainer_of(tiny_unet(torch.float64), work, VALIDATING, 4)
    assert furthest_apart(run(trainer, work[:cut]) | run(trainer, work[cut:]), whole_lot) <= 1e-9


@pytest.mark.parametrize(
    ("steps", "width", "rows"),
    [
        # The longest first; where one ends the next begins, so that no pass has an empty place.
        ([1, 2, 3, 4, 5, 6], 3, [3] * 7),
        ([5, 1, 1], 2, [2, 2, 1, 1, 1]),
        ([3, 3, 2], 8, [3, 3, 2]),
        ([2, 2, 2], 1, [1] * 6),
    ],
)
def test_free_places_are_taken_at_once(steps: list[int], width: int, rows: list[int]) -> None:
    unet, work = tiny_unet(), jobs(steps)
    passes = Passes(unet)
    found = train(unet, work, CONFIG.model_copy(update={"generator": "lora"}), width)
    assert passes.sizes == [count * CONFIG.batch_size for count in rows]
    assert {job.name: job.steps for job in work} == {name: result.progress.step for name, result in found.items()}


def test_latents_are_read_when_an_adapter_s_turn_comes() -> None:
    order, work = list[str](), jobs([2, 4, 3])

    def noting(job: AdapterJob):  # type: ignore[no-untyped-def]
        order.append(f"read {job.cluster}")
        return latents_of(job)

    trainer = trainer_of(tiny_unet(), work, width=1, load=noting)
    trainer.train(work, lambda result: order.append(f"ended {result.job.cluster}"))
    assert order == ["read 1", "ended 1", "read 2", "ended 2", "read 0", "ended 0"]


def checkpoints(
    work: Sequence[AdapterJob], config: FinetuneConfig, width: int, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[list[LotState], dict[str, Trained]]:
    """Train; all states that were given to be kept, and the results."""
    states: list[LotState] = []
    return states, train(tiny_unet(dtype), work, config, width, checkpoint=states.append, **options)


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 8])
def test_going_on_from_any_checkpoint_ends_with_the_same_bits(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, config = jobs([6, 2, 4, 3]), VALIDATING.model_copy(update={"checkpoint_every": 1})
    break_once(monkeypatch, work, {0: 3})
    states, undisturbed = checkpoints(work, config, width)
    assert [state.steps for state in states] == list(range(len(states))) and not states[0].rows
    assert undisturbed[work[0].name].progress.attempt == 1
    for state in states:
        save_state(state, tmp_path / "lot.safetensors")
        resumed = train(tiny_unet(), work, config, width, resume=load_state(tmp_path / "lot.safetensors"))
        assert resumed.keys() == undisturbed.keys() - set(state.ended)
        for name, result in resumed.items():
            assert same_bits(result.weights, undisturbed[name].weights), (state.steps, name)
            assert progress_facts(result.progress) == progress_facts(undisturbed[name].progress)


def test_checkpoints_come_at_their_steps_and_tell_who_has_ended() -> None:
    work = jobs([5, 4, 3])
    states, _ = checkpoints(work, CONFIG.model_copy(update={"checkpoint_every": 2}), 2)
    assert [state.steps for state in states] == [0, 2, 4, 6]
    first, second, third = (job.name for job in work)
    assert [[(row.name, row.step) for row in state.rows] for state in states] == [
        [], [(first, 2), (second, 2)], [(first, 4)], [(third, 2)]
    ]  # fmt: skip
    assert [state.ended for state in states] == [[], [], [second], [second, first]]


def test_without_checkpoints_none_are_made_and_the_result_is_the_same() -> None:
    work, config = jobs([5, 3]), CONFIG.model_copy(update={"checkpoint_every": 1})
    _, with_them = checkpoints(work, config, 2)
    without = train(tiny_unet(), work, config, 2)
    assert all(same_bits(without[name].weights, with_them[name].weights) for name in without)


@pytest.mark.parametrize(
    ("told_at", "expected"), [(3, [0, 3, 4, 8]), (4, [0, 4, 8]), (1, [0, 1, 4, 8]), (99, [0, 4, 8])]
)
def test_a_notice_makes_one_more_checkpoint_at_once(told_at: int, expected: list[int]) -> None:
    asked: list[int] = []

    def notice() -> bool:
        asked.append(1)
        return len(asked) >= told_at

    work, config = jobs([9, 8]), CONFIG.model_copy(update={"checkpoint_every": 4})
    states, _ = checkpoints(work, config, 2, notice=notice)
    assert [state.steps for state in states] == expected
    assert len(asked) == min(told_at, 9), "once told, it is not asked again"


def test_adapters_that_other_lots_had_begun_go_on_from_there(tmp_path: Path) -> None:
    """Two lots are cut short; a lot of some adapters of each, and of one that nobody had begun, ends as it should."""
    work, config = jobs([7, 6, 7, 6, 7]), VALIDATING.model_copy(update={"checkpoint_every": 1})
    unet = tiny_unet(torch.float64)
    undisturbed = train(unet, work, config)
    for name, part, steps in (("a", work[:2], 3), ("b", work[2:4], 5)):
        states, _ = checkpoints(part, config, 2, torch.float64)
        save_state(states[steps], tmp_path / f"{name}.safetensors")
    mixed = [work[1], work[2], work[4]]
    begun = adopted(tmp_path, {job.name for job in mixed})
    assert {name: row.progress.step for name, row in begun.items()} == {work[1].name: 3, work[2].name: 5}
    for _ in range(2):  # what was adopted can be adopted again: it is not changed
        trainer = trainer_of(unet, mixed, config)
        losses = recorded_losses(trainer, mixed)
        found = run(trainer, mixed, begun=begun)
        assert [len(losses[job.name]) for job in mixed] == [3, 2, 7], "steps that were done are not done again"
        assert furthest_apart(found, {name: undisturbed[name] for name in found}) <= 1e-9
        assert all(
            progress_facts(found[name].progress)[:4] == progress_facts(undisturbed[name].progress)[:4] for name in found
        )

"""Whole UNets: which state of one is kept, what its checkpoints hold on disk, and base models in bfloat16."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from fairsynth.stages.finetune.full_training import FullState, load_full, save_full
from fairsynth.stages.finetune.lot_state import Progress
from tests.support.lots import (
    CONFIG,
    FULL_JOB,
    VALIDATING,
    changed,
    difference,
    full_trainer,
    kept_full,
    latents_of,
    progress_facts,
    same_bits,
    train_full,
)


def part(state: FullState, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint that belong together, by parameter."""
    return {key.partition(".")[2]: value for key, value in state.tensors.items() if key.startswith(f"{name}.")}


def state_of(progress: Progress, *parts: str) -> FullState:
    """A checkpoint with random numbers."""
    shapes: Mapping[str, tuple[int, ...]] = {"conv.weight": (3, 2, 1), "conv.bias": (3,)}
    names = ("weights", "first", "second", *parts)
    return FullState(progress, {f"{name}.{key}": torch.randn(shape) for name in names for key, shape in shapes.items()})


@pytest.mark.parametrize("with_best", [True, False])
def test_a_checkpoint_is_read_back_as_it_was(with_best: bool, tmp_path: Path) -> None:
    path = tmp_path / "full.safetensors"
    validated = Progress("low--0", 7, 1, 4, 'loss nan, "again"', [(2, 0.1), (4, 1 / 3)], losses=[(1, 0.75)])
    state = state_of(validated, "best") if with_best else state_of(Progress("low--0", 3))
    save_full(state_of(Progress("low--1", 1)), path)
    save_full(state, path)
    found = load_full(path)
    assert found is not None and progress_facts(found.progress) == progress_facts(state.progress)
    assert same_bits(found.tensors, state.tensors)
    assert [left.name for left in tmp_path.iterdir()] == ["full.safetensors"]


def test_there_may_be_no_checkpoint(tmp_path: Path) -> None:
    assert load_full(tmp_path / "full.safetensors") is None


def test_a_checkpoint_does_not_follow_the_training() -> None:
    _, states = kept_full(VALIDATING)
    weights = [part(state, "weights") for state in states]
    assert all(difference(one, other) > 0 for one, other in itertools.pairwise(weights))
    assert [state.progress.step for state in states] == list(range(1, 10))
    assert all(same_bits(part(state, "best"), weights[state.progress.best_step - 1]) for state in states[1:])
    assert not part(states[0], "best"), "it was not validated yet"


def test_the_best_state_is_kept_and_patience_ends_what_gets_no_better() -> None:
    worsening = changed(FULL_JOB, learning_rate=0.1, steps=16)
    found, states = kept_full(VALIDATING, worsening)
    losses = dict(found.progress.validation)
    best = min(losses, key=lambda step: losses[step])
    assert list(losses) == [2, 4, 6, 8, 10, 12, 14, 16] and best < 12, losses
    assert same_bits(found.weights, part(states[best - 1], "weights"))
    patient, _ = kept_full(VALIDATING.model_copy(update={"patience": 2}), worsening)
    waits = [
        step
        for step in losses
        if sum(min(losses, key=lambda s: losses[s] if s <= step else 9.9) < s <= step for s in losses) >= 2
    ]
    assert patient.progress.step == waits[0] < 16
    assert patient.progress.validation == [point for point in found.progress.validation if point[0] <= waits[0]]


def test_small_clusters_keep_the_last_state() -> None:
    small = VALIDATING.model_copy(update={"validation_min_images": 9})
    found = train_full(small)
    assert not found.progress.validation
    assert same_bits(found.weights, train_full(CONFIG).weights)


def test_validation_does_not_change_the_training() -> None:
    often, once = (kept_full(VALIDATING.model_copy(update={"validate_every": every}))[1] for every in (2, 1000))
    assert len(often) == len(once) == 9
    assert all(same_bits(part(a, "weights"), part(b, "weights")) for a, b in zip(often, once, strict=True))


def test_of_a_base_in_bfloat16_the_weights_are_trained_in_float32() -> None:
    slow = changed(FULL_JOB, learning_rate=1e-5)
    steps = []
    for dtype in (torch.bfloat16, torch.float32):
        trainer = full_trainer(VALIDATING, dtype)
        base = {name: value.clone() for name, value in trainer.network.named_parameters()}
        found = trainer.train(slow, latents_of(slow)).weights
        assert found is not None and {value.dtype for value in found.values()} == {torch.float32}
        assert same_bits(dict(trainer.network.named_parameters()), base)
        steps.append(torch.cat([(found[name] - base[name]).flatten() for name in base]))
    assert (steps[0] != 0).float().mean() > 0.95, "steps that bfloat16 would round away are made"
    assert torch.nn.functional.cosine_similarity(steps[0], steps[1], dim=0) > 0.8, "about where they go in float32"

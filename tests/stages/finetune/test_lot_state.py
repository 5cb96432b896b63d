"""States of lots on disk: read back as they were, never half of one, and adopted by other lots."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fairsynth.stages.finetune import lot_state
from fairsynth.stages.finetune.lot_state import LotState, Progress, adopted, load_state, save_state
from tests.support.lots import progress_facts

# Names as groups make them: a slug may hold dots.
FIRST, SECOND = "low--flower.1--0", "low--flower.1--1"


def state_of(*rows: Progress, size: int = 5, seed: int = 0, steps: int = 9) -> LotState:
    """A state with random numbers."""
    generator = torch.Generator().manual_seed(seed)
    matrices = (torch.randn(len(rows), size, generator=generator) for _ in range(3))
    return LotState(list(rows), ["other--0"], steps, *matrices)


def assert_same(ours: LotState | None, theirs: LotState) -> None:
    """Equal in all that they hold, to the last bit."""
    assert ours is not None
    assert (ours.ended, ours.steps) == (theirs.ended, theirs.steps)
    assert list(map(progress_facts, ours.rows)) == list(map(progress_facts, theirs.rows))
    for one, other in zip(ours.rows, theirs.rows, strict=True):
        assert (one.best is None) == (other.best is None)
        if one.best is not None and other.best is not None:
            assert torch.equal(one.best, other.best) and one.best.dtype == other.best.dtype
    for part in ("weights_NP", "first_NP", "second_NP"):
        assert torch.equal(getattr(ours, part), getattr(theirs, part))
        assert getattr(ours, part).dtype == getattr(theirs, part).dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_state_is_read_back_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    validated = Progress(
        FIRST, 7, 1, 4, 'loss nan at step 5, "learning rate"', [(2, 0.1), (4, 1 / 3)], torch.rand(5), [(1, 0.75)]
    )
    state = state_of(validated, Progress(SECOND, 3))
    state = LotState(state.rows, state.ended, state.steps, *(part.to(dtype) for part in matrices(state)))
    save_state(state, tmp_path / "lot.safetensors")
    assert_same(load_state(tmp_path / "lot.safetensors"), state)


def matrices(state: LotState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return state.weights_NP, state.first_NP, state.second_NP


def test_a_state_of_no_rows_is_read_back(tmp_path: Path) -> None:
    state = state_of()
    save_state(state, tmp_path / "lot.safetensors")
    assert_same(load_state(tmp_path / "lot.safetensors"), state)


def test_there_may_be_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path / "lot.safetensors") is None
    assert adopted(tmp_path, {FIRST}) == {}


def test_only_the_newest_state_is_left(tmp_path: Path) -> None:
    for seed in range(3):
        save_state(state_of(Progress(FIRST, seed), seed=seed), tmp_path / "lot.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["lot.safetensors"]
    assert_same(load_state(tmp_path / "lot.safetensors"), state_of(Progress(FIRST, 2), seed=2))


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, path = state_of(Progress(FIRST, 1)), tmp_path / "lot.safetensors"
    save_state(old, path)

    def full(tensors: object, target: Path, facts: object) -> None:
        target.write_bytes(b"half of i")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fairsynth.models.state_files.save_file", full)
        with pytest.raises(OSError, match="no space"):
            save_state(state_of(Progress(FIRST, 2), seed=1), path)
    assert_same(load_state(path), old)
    # What is left of it is nobody's state.
    assert {name: row.progress.step for name, row in adopted(tmp_path, {FIRST}).items()} == {FIRST: 1}


def test_a_row_is_one_adapter_s() -> None:
    state = state_of(Progress(FIRST, 1), Progress(SECOND, 2))
    row = state.row(1)
    assert row.progress == Progress(SECOND, 2)
    assert torch.equal(row.weights, state.weights_NP[1]) and torch.equal(row.second, state.second_NP[1])
    row.progress.step += 1
    row.progress.validation.append((3, 0.5))
    assert state.rows[1] == Progress(SECOND, 2), "what is done with it leaves the state alone"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("near", "far"), [((0, 4), (0, 5)), ((0, 8), (1, 2)), ((1, 2), (1, 3))])
def test_of_two_lots_that_had_begun_an_adapter_the_furthest_is_adopted(
    near: tuple[int, int], far: tuple[int, int], turned: bool, tmp_path: Path
) -> None:
    """A second attempt is further than any first."""
    best, names = torch.rand(5), ("b", "a") if turned else ("a", "b")
    for seed, (name, (attempt, step)) in enumerate(zip(names, (near, far), strict=True)):
        rows = (Progress("else--0", 99), Progress(FIRST, step, attempt, validation=[(1, 0.5)], best=best + seed))
        save_state(state_of(*rows, seed=seed), tmp_path / f"{name}.safetensors")
    found = adopted(tmp_path, {FIRST, SECOND})
    assert list(found) == [FIRST]
    row, expected = found[FIRST], state_of(Progress("", 0), Progress("", 0), seed=1)
    assert (row.progress.attempt, row.progress.step) == far
    assert row.progress.best is not None and torch.equal(row.progress.best, best + 1)
    for part, matrix in zip((row.weights, row.first, row.second), matrices(expected), strict=True):
        assert torch.equal(part, matrix[1])


def test_an_adopted_row_outlives_the_file_it_came_from(tmp_path: Path) -> None:
    path, state = tmp_path / "lot.safetensors", state_of(Progress(FIRST, 1))
    save_state(state, path)
    found = adopted(tmp_path, {FIRST})
    path.unlink()
    assert torch.equal(found[FIRST].weights, state.weights_NP[0])


def test_progress_knows_its_best_step_and_how_long_it_has_waited() -> None:
    progress = Progress(FIRST)
    assert (progress.best_step, progress.waited) == (0, 0)
    for step, loss, best, waited in [
        (2, 0.5, 2, 0), (4, 0.4, 4, 0), (6, 0.45, 4, 1), (8, 0.4, 4, 2), (9, 0.3, 9, 0)
    ]:  # fmt: skip
        progress.validation.append((step, loss))
        assert (progress.best_step, progress.waited) == (best, waited), "of two equals the first is the best"


def test_a_rolled_back_adapter_is_at_its_best_validated_state() -> None:
    best = torch.rand(5)
    progress = Progress(FIRST, 9, 0, 0, "", [(2, 0.5), (4, 0.4), (6, 0.45), (8, 0.6)], best)
    back = progress.rolled_back("it exploded")
    assert progress_facts(back) == (FIRST, 4, 1, 4, "it exploded", ((2, 0.5), (4, 0.4)))
    assert back.best is best and (back.best_step, back.waited) == (4, 0)
    assert progress.step == 9 and len(progress.validation) == 4, "the old one is as it was"


def test_a_rolled_back_adapter_that_was_never_validated_is_at_its_beginning() -> None:
    back = Progress(FIRST, 9).rolled_back("it exploded")
    assert progress_facts(back) == (FIRST, 0, 1, 0, "it exploded", ()) and back.best is None


def test_a_copy_does_not_follow() -> None:
    progress = Progress(FIRST, 1, validation=[(1, 0.5)])
    copied = progress.copy()
    progress.step += 1
    progress.validation.append((2, 0.4))
    assert progress_facts(copied) == (FIRST, 1, 0, 0, "", ((1, 0.5),))


def test_what_begins_with_a_dot_or_ends_otherwise_is_no_state(tmp_path: Path) -> None:
    save_state(state_of(Progress(FIRST, 1)), tmp_path / f"lot{lot_state.SUFFIX}")
    for name in (f".lot{lot_state.SUFFIX}.0123", f".lot{lot_state.SUFFIX}", "lot.txt"):
        (tmp_path / name).write_bytes(b"half of it")
    assert list(adopted(tmp_path, {FIRST})) == [FIRST]

"""The state of a lot of adapters in training, on disk and back.

A lot that goes on from its state ends with the same bits as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fairsynth.models.state_files import SUFFIX, read_state, write_state
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.store.mirror import names_in

# About as many training losses are kept of an adapter.
LOSSES = 50
# Fields of LotState that are written unchanged.
_PLAIN = ("ended", "steps", "waiting", "width")


@dataclass
class Progress:
    """Progress of one adapter."""

    name: str
    step: int = 0
    attempt: int = 0
    """Number of roll-backs; each halves the learning rate and changes the draws."""
    since: int = 0
    """Step at which the optimizer's moments were zero."""
    fault: str = ""
    """Why it was rolled back."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss on held-out images), in order; all finite."""
    best: torch.Tensor | None = None
    """Weights (P,) with the lowest of these losses."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, training loss of that step), some fifty of them, for people."""

    def copy(self) -> Progress:
        """A copy to keep."""
        return replace(self, validation=list(self.validation), losses=list(self.losses))

    @property
    def best_step(self) -> int:
        """The step of the lowest validation loss; 0 before the first."""
        return min(self.validation, key=lambda point: point[1])[0] if self.validation else 0

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        return sum(step > self.best_step for step, _ in self.validation)

    def loss_due(self, job: AdapterJob) -> bool:
        """Whether the training loss of this step is kept."""
        return self.step % max(1, job.steps // LOSSES) == 0

    def rate(self, job: AdapterJob, step: int) -> float:
        """Learning rate of a step, the first being 1; halved by every roll-back."""
        return job.rate(step) * 0.5**self.attempt

    def validation_due(self, job: AdapterJob, every: int) -> bool:
        """Whether this step is to be validated and has not been: the last one is, and one in ``every``."""
        validated = self.validation and self.validation[-1][0] == self.step
        return bool(self.step) and not validated and (self.step % every == 0 or self.step >= job.steps)

    def done(self, job: AdapterJob, patience: int | None) -> bool:
        """All steps done, or no better on held-out images for ``patience`` validations."""
        return self.step >= job.steps or (patience is not None and self.waited >= patience)

    def rolled_back(self, fault: str) -> Progress:
        """Where an adapter starts again after its loss exploded: at its best validated state, else at the beginning.

        Both depend on the adapter alone, not on its mates or checkpoints.
        """
        start = self.best_step
        kept = [point for point in self.validation if point[0] <= start]
        losses = [point for point in self.losses if point[0] <= start]
        return Progress(self.name, start, self.attempt + 1, start, fault, kept, self.best, losses)


@dataclass(frozen=True)
class Trained:
    """Result of one adapter: weights (peft's names; the network's, where all are trained), or why it has none."""

    job: AdapterJob
    progress: Progress
    weights: Mapping[str, torch.Tensor] | None
    failure: str = ""


class Row(NamedTuple):
    """One adapter in training: weights and moments, (P,) each."""

    progress: Progress
    weights: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


@dataclass(frozen=True)
class LotState:
    """Rows of weights and moments on the CPU, (N, P) each, and the progress of each row's adapter."""

    rows: list[Progress]
    ended: list[str]
    """Adapters that had finished or failed by then."""
    steps: int
    """Steps that the lot as a whole had done."""
    weights_NP: torch.Tensor
    first_NP: torch.Tensor
    second_NP: torch.Tensor
    waiting: list[str] = field(default_factory=list)
    """Adapters that were not in training yet."""
    width: int | None = None
    """Adapters in training at once, if known: a resumed lot must be cut as before to end with the same bits."""

    @property
    def names(self) -> set[str]:
        """All adapters of the lot."""
        return {*(row.name for row in self.rows), *self.ended, *self.waiting}

    def row(self, index: int) -> Row:
        """One adapter of it."""
        return Row(self.rows[index].copy(), self.weights_NP[index], self.first_NP[index], self.second_NP[index])


def save_state(state: LotState, path: Path) -> None:
    """Write a state."""
    rows = [{**asdict(replace(row, best=None)), "has_best": row.best is not None} for row in state.rows]
    tensors = {"weights": state.weights_NP, "first": state.first_NP, "second": state.second_NP}
    tensors |= {f"best.{row.name}": row.best for row in state.rows if row.best is not None}
    facts = {"rows": rows, **{name: getattr(state, name) for name in _PLAIN}}
    write_state(path, tensors, facts)


def load_state(path: Path) -> LotState | None:
    """Read a state; None if it is missing."""
    content = read_state(path)
    return None if content is None else _state(*content)


def adopted(folder: Path, names: Collection[str]) -> dict[str, Row]:
    """The rows of these adapters in the states of any lots that had begun them; of each the furthest."""
    rows: dict[str, Row] = {}
    for name in (name for name in names_in(folder) if name.endswith(SUFFIX)):
        # The file may be gone or replaced: other lots are at work.
        content = read_state(folder / name, lambda facts: any(row["name"] in names for row in facts["rows"]))
        if content is None:
            continue
        state = _state(*content)
        for index, progress in enumerate(state.rows):
            known = rows.get(progress.name)
            if progress.name in names and (known is None or _how_far(known.progress) < _how_far(progress)):
                row = state.row(index)
                # Copies: a row must not hold on to the whole of its lot.
                rows[progress.name] = Row(row.progress, *(part.clone() for part in row[1:]))
    return rows


def _how_far(progress: Progress) -> tuple[int, int]:
    return progress.attempt, progress.step


def _state(facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> LotState:
    rows = [_progress(row, tensors) for row in facts["rows"]]
    weights, first, second = (tensors[name] for name in ("weights", "first", "second"))
    plain = {name: facts[name] for name in _PLAIN}
    return LotState(rows, weights_NP=weights, first_NP=first, second_NP=second, **plain)


def _progress(facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Progress:
    plain = {key: value for key, value in facts.items() if key not in ("has_best", "validation", "losses", "best")}
    # States from before losses were kept have none.
    points = {key: [(int(step), float(loss)) for step, loss in facts.get(key, ())] for key in ("validation", "losses")}
    best = tensors[f"best.{facts['name']}"] if facts["has_best"] else None
    return Progress(**{**plain, **points, "best": best})

"""Stage 4, finetune: the state of a lot of adapters in training, on disk and back.

It is both the checkpoint that survives a lost node and the last good state that a diverged adapter returns to.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

SUFFIX = ".safetensors"


@dataclass
class Progress:
    """How far one adapter is."""

    name: str
    step: int = 0
    attempt: int = 0
    """How often it has been rolled back; the learning rate is halved and the draws are others each time."""
    fault: str = ""
    """Why it was rolled back."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss on held-out images), in order."""
    best: torch.Tensor | None = None
    """Weights (P,) with the lowest of these losses."""

    def copy(self) -> Progress:
        """The same, for keeping."""
        return replace(self, validation=list(self.validation))

    @property
    def best_step(self) -> int | None:
        """The step of the lowest validation loss; None before the first."""
        return min(self.validation, key=lambda point: point[1])[0] if self.validation else None

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        return sum(step > (self.best_step or 0) for step, _ in self.validation)


@dataclass(frozen=True)
class LotState:
    """Rows of weights and moments on the CPU, (N, P) each, and the progress of each row's adapter."""

    weights_NP: torch.Tensor
    first_NP: torch.Tensor
    second_NP: torch.Tensor
    rows: list[Progress]
    ended: list[str]
    """Adapters that were finished or had failed by then."""
    steps: int
    """Steps that the lot as a whole had done."""

    def row(self, name: str) -> tuple[Progress, torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Progress, weights and moments, (P,) each, of one adapter; None if it was not in training."""
        for index, progress in enumerate(self.rows):
            if progress.name == name:
                return progress.copy(), self.weights_NP[index], self.first_NP[index], self.second_NP[index]
        return None


def save_state(state: LotState, path: Path) -> None:
    """Write a state (safetensors): the old one or the new one is there, never half of one."""
    from safetensors.torch import save_file

    facts = [{**asdict(replace(row, best=None)), "has_best": row.best is not None} for row in state.rows]
    tensors = {"weights": state.weights_NP, "first": state.first_NP, "second": state.second_NP}
    tensors |= {f"best.{row.name}": row.best for row in state.rows if row.best is not None}
    header = json.dumps({"rows": facts, "ended": state.ended, "steps": state.steps})
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"lot": header})
    partial.replace(path)


def load_state(path: Path) -> LotState | None:
    """Read a state; None if there is none."""
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, "pt") as handle:
        header = json.loads(handle.metadata()["lot"])
        rows = []
        for facts in header["rows"]:
            best = handle.get_tensor(f"best.{facts['name']}") if facts.pop("has_best") else None
            facts["validation"] = [tuple(point) for point in facts["validation"]]
            rows.append(Progress(**facts, best=best))
        tensors = (handle.get_tensor(name) for name in ("weights", "first", "second"))
        return LotState(*tensors, rows, header["ended"], header["steps"])


def states(folder: Path) -> Iterator[LotState]:
    """Every state in a folder, whichever lots they are of."""
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        state = load_state(path)
        if state is not None:
            yield state

"""The state of a training run between two epochs, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify.losses import GroupDRO
from fairsynth.models.state_files import read_state, write_state


class Point(NamedTuple):
    """A state as it was read: facts, and tensors by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")
        }

    def errors(self) -> NDArray[np.bool_]:
        """JTT's error set."""
        return self.tensors["errors"].numpy().astype(bool)

    def put_back(self, optimizer: torch.optim.Optimizer, dro: GroupDRO | None) -> None:
        """Give an optimizer and Group-DRO the state that they had."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.part("optimizer").items():
            number, _, name = key.partition("/")
            state.setdefault(int(number), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if dro is not None:
            dro.q_G = self.tensors["q"]


def write_point(
    path: Path,
    identity: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    best: int | None,
    parts: Mapping[str, Mapping[str, Tensor]],
    rng: torch.Generator,
    optimizer: torch.optim.Optimizer | None,
    dro: GroupDRO | None,
    errors: NDArray[np.bool_] | None,
) -> None:
    """Write all that the rest of a run depends on: whole, or not at all."""
    tensors = {
        f"{part}/{name}": value.detach().cpu() for part, values in parts.items() for name, value in values.items()
    }
    # Tensors that share their memory cannot stand in one file.
    tensors = {name: value.clone() for name, value in tensors.items()}
    tensors["rng"] = rng.get_state()
    if optimizer is not None:
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value.cpu().clone() for name, value in values.items()}
    if dro is not None:
        tensors["q"] = dro.q_G.cpu().clone()
    if errors is not None:
        tensors["errors"] = torch.from_numpy(errors.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_state(path, tensors, {"identity": dict(identity), "history": [dict(e) for e in history], "best": best})


def read_point(path: Path, identity: Mapping[str, Any]) -> Point | None:
    """The state of the run with this identity; None if the file is missing or is another run's."""
    content = read_state(path, lambda facts: bool(facts.get("identity") == identity))
    return Point(*content) if content else None

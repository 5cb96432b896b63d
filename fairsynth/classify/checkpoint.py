"""The state of a training run between two epochs, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify.average import Average
from fairsynth.classify.batch_loss import BatchLoss
from fairsynth.classify.epoch import Choice
from fairsynth.classify.images import Images
from fairsynth.classify.losses import FeatureLoss, GroupDRO
from fairsynth.classify.methods import Phase
from fairsynth.classify.styles import exchanged
from fairsynth.models.classifier import Classifier
from fairsynth.models.data_parallel import Ranks
from fairsynth.models.state_files import read_state, write_state


@dataclass
class Loop:
    """What a phase works with.

    A resume restores the optimizer, JTT's errors, Group-DRO's weights, a special loss and the average, and rebuilds the
    rest.
    """

    phase: Phase
    images: Images
    networks: tuple[Classifier, ...]
    """The classifier, then those that are trained beside it."""
    optimizer: torch.optim.Optimizer
    loss: FeatureLoss
    dro: GroupDRO | None = None
    errors: NDArray[np.bool_] | None = None
    features: Tensor | None = None
    """Those of a frozen encoder."""
    special: BatchLoss | None = None
    """Takes the place of ``loss``."""
    average: Average | None = None
    """Of the classifier's weights: what the phase ends with."""

    def as_seen(self, n: int, ranks: Ranks, rng: torch.Generator) -> AbstractContextManager[None]:
        """Within it the classifier sees a batch of ``n`` images as the phase says: perhaps with styles exchanged.

        A network beside it does not: LfF's is to learn the shortcut.
        """
        return exchanged(self.networks[0], n, ranks, rng) if self.phase.styles else nullcontext()


class Point(NamedTuple):
    """A state as it was read: facts, and tensors by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")
        }

    def put_back_choices(self, choices: Sequence[Choice]) -> None:
        """Give every choice what it had."""
        for number, facts in enumerate([self.facts, *self.facts.get("others", [])]):
            choices[number].put_back(facts, self.part(_best(number)))

    def errors(self) -> NDArray[np.bool_]:
        """JTT's error set."""
        return self.tensors["errors"].numpy().astype(bool)

    def put_back(
        self, optimizer: torch.optim.Optimizer, dro: GroupDRO | None, special: BatchLoss | None = None
    ) -> None:
        """Give an optimizer, Group-DRO and a special loss the state that they had."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.part("optimizer").items():
            number, _, name = key.partition("/")
            state.setdefault(int(number), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if dro is not None:
            dro.q_G = self.tensors["q"]
        if special is not None:
            special.put_back(self.part("special"))


def average_of(phase: Phase, model: Classifier, point: Point | None) -> Average | None:
    """The running mean with which a phase begins or, after a restore, goes on."""
    if not phase.averaged:
        return None
    average = Average(model.state_dict())
    if point:
        average.put_back(point.part("average"))
    return average


def write_point(
    path: Path,
    identity: Mapping[str, Any],
    model: Classifier,
    choices: Sequence[Choice],
    rng: torch.Generator,
    loop: Loop | None,
) -> None:
    """Write all that the rest of a run depends on: whole, or not at all."""
    parts: dict[str, Mapping[str, Tensor]] = {"model": model.state_dict()}
    parts |= {_best(number): choice.state for number, choice in enumerate(choices)}
    if loop and loop.special:
        parts = {**parts, "special": loop.special.state()}
    if loop and loop.average:
        parts = {**parts, "average": loop.average.kept()}
    tensors = {
        f"{part}/{name}": value.detach().cpu() for part, values in parts.items() for name, value in values.items()
    }
    # Tensors that share their memory cannot stand in one file.
    tensors = {name: value.clone() for name, value in tensors.items()}
    tensors["rng"] = rng.get_state()
    if loop:
        tensors |= _kept(loop)
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [choice.facts() for choice in choices]
    write_state(path, tensors, {"identity": dict(identity), **first} | ({"others": others} if others else {}))


def _best(number: int) -> str:
    """Name of the part of a state that a choice keeps."""
    return f"best-{number}" if number else "best"


def _kept(loop: Loop) -> dict[str, Tensor]:
    kept = {
        f"optimizer/{number}/{name}": value.cpu().clone()
        for number, values in loop.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    if loop.dro is not None:
        kept["q"] = loop.dro.q_G.cpu().clone()
    if loop.errors is not None:
        kept["errors"] = torch.from_numpy(loop.errors.astype(np.uint8))
    return kept


def read_point(path: Path, identity: Mapping[str, Any]) -> Point | None:
    """The state of the run with this identity; None if the file is missing or is another run's."""
    content = read_state(path, lambda facts: bool(facts.get("identity") == identity))
    return Point(*content) if content else None

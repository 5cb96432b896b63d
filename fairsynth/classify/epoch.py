"""The result of an epoch, and the figure by which epochs are chosen."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairsynth.errors import DivergedError

if TYPE_CHECKING:
    from torch import Tensor

    from fairsynth.classify.images import Images

Rule = Literal["worst-group", "worst-class", "accuracy"]
Values = TypeVar("Values", float, NDArray[np.float32])


def finite(values: Values, name: str) -> Values:
    """The same values. Raises DivergedError, which names them, if one of them is infinite or no number."""
    if not np.isfinite(values).all():
        raise DivergedError(f"its {name} became {'nan' if np.isnan(values).any() else 'infinite'}")
    return values


def figures(
    predicted_N: NDArray[np.int64], labels_N: NDArray[np.int64], groups_N: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Worst-group, worst-class and mean accuracy."""
    right_N = predicted_N == labels_N
    worst, worst_class = (min(float(right_N[of == v].mean()) for v in np.unique(of)) for of in (groups_N, labels_N))
    return worst, worst_class, float(right_N.mean())


def merit(rule: Rule, worst_group: float, worst_class: float, accuracy: float) -> tuple[float, float]:
    """What epochs and trials are chosen by: the rule's figure, then the mean accuracy."""
    return {"worst-group": worst_group, "worst-class": worst_class}.get(rule, accuracy), accuracy


@dataclass(frozen=True)
class Epoch:
    """Result of one epoch: mean loss, and accuracies on validation images; only ``selectable`` ones may be chosen."""

    number: int
    stage: int
    loss: float
    worst_group_accuracy: float
    worst_class_accuracy: float
    accuracy: float
    selectable: bool

    def merit(self, rule: Rule) -> tuple[float, float]:
        """What the epoch is chosen by."""
        return merit(rule, self.worst_group_accuracy, self.worst_class_accuracy, self.accuracy)


class Judge(NamedTuple):
    """Validation images by which a training is chosen."""

    known: Images
    selectable: tuple[bool, ...] | None = None
    """Of its first phases, as many as are looked at, whether their epochs may be chosen; None: as the training has it."""


class Choice:
    """The best epoch of a training by some validation images, and the classifier's state of then.

    ``selectable``: see ``Judge``; epochs of later phases are not noted.
    """

    def __init__(self, known: Images, rule: Rule, selectable: Sequence[bool] = (True,)) -> None:
        self.known: Images = known
        self.rule: Rule = rule
        self.selectable = tuple(selectable)
        self.refused = ""  # why its images cannot refit the linear layer, if they cannot
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.state: dict[str, Tensor] = {}

    def is_better(self, epoch: Epoch) -> bool:
        """Whether an epoch may be chosen and is better than all before it."""
        return epoch.selectable and (self.best is None or epoch.merit(self.rule) > self.best.merit(self.rule))

    def note(self, epoch: Epoch, state: Mapping[str, Tensor] | None) -> None:
        """Put an epoch on record, as the best so far where its ``state`` is given, which is copied."""
        if state is not None:
            self.best, self.state = epoch, copy.deepcopy(dict(state))
        self.history.append(epoch)

    def facts(self) -> dict[str, Any]:
        """All but the state, for JSON."""
        return {"history": [vars(epoch) for epoch in self.history], "best": self.best.number if self.best else None}

    def put_back(self, facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        """Take over what ``facts`` gave, and the state."""
        self.history = [Epoch(**epoch) for epoch in facts["history"]]
        self.best = None if facts["best"] is None else self.history[facts["best"]]
        self.state = dict(state)

"""The result of an epoch, and the figure by which epochs are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rule = Literal["worst-group", "worst-class", "accuracy"]


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
        """What epochs and trials are chosen by: the rule's figure, then the mean accuracy."""
        figures = {"worst-group": self.worst_group_accuracy, "worst-class": self.worst_class_accuracy}
        return figures.get(rule, self.accuracy), self.accuracy

"""Which trials train alike, so that they can be trained once: a classifier's way does not depend on who looks at it.

DFR's first phase is ERM with the same setting, and several of fairsynth's policies are other methods. Each trial chooses
by its own validation images, and gets what a training of its own would have given, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fairsynth.classify.methods import Plan, covers, numbers, phases, trainings
from fairsynth.classify.policies import Setting
from fairsynth.config import ClassifyConfig

Task = TypeVar("Task")


@dataclass(frozen=True)
class Wanted:
    """A trial to train to its end; ``crossed``: it is cross-fitted."""

    method: str
    number: int
    setting: Setting
    crossed: bool

    def plan(self, config: ClassifyConfig) -> Plan:
        """Its phases and figures."""
        return Plan(phases(self.method, self.setting, config), numbers(self.setting))

    def alone(self, config: ClassifyConfig) -> bool:
        """Whether it has trainings that nobody can share: for each half of validation one."""
        return self.crossed and len(trainings(self.plan(config).phases)) > 1


def together(
    tasks: Sequence[Task], wanted: Callable[[Task], Wanted | None], config: ClassifyConfig
) -> list[list[Task]]:
    """The tasks, in order, each with later ones that its training serves. ``wanted`` gives None for one that shares none."""
    found: list[tuple[Plan | None, list[Task]]] = []
    for task in tasks:
        one = wanted(task)
        plan = None if one is None or one.alone(config) else one.plan(config)
        hosts = [those for its, those in found if plan and its and covers(its, plan)]
        if hosts:
            hosts[0].append(task)
        else:
            found.append((plan, [task]))
    return [those for _, those in found]

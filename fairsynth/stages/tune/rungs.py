"""After which epochs only the best trials go on."""

from __future__ import annotations

from collections.abc import Sequence

from fairsynth.classify.methods import Phase

# One trial in this many goes on at each rung.
FACTOR = 3


def rungs(stages: Sequence[Phase], grace: int) -> list[int]:
    """The epochs of a method after which only the best go on, the first of them after ``grace``.

    None for methods of several phases: what the first ones reach says little of the end, and they differ in length.
    """
    longest = sum(phase.epochs for phase in stages) if len(stages) == 1 else 0
    return [grace * FACTOR**i for i in range(64) if grace * FACTOR**i < longest]

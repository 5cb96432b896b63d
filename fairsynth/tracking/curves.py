"""What is tracked of a stage: curves of figures by step, as they are once the stage is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Curve:
    """Figures of one thing (an adapter, a method's trials): by name, the points (step, value)."""

    name: str
    points: Mapping[str, Sequence[tuple[int, float]]]
    facts: Mapping[str, str] = field(default_factory=dict)
    """What people may want to read beside it."""

"""Samples of many items, the same every time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def sample(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` items in their order, drawn at random from a fixed seed."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), max(0, most)))]  # noqa: S311


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` items, evenly spaced: of all units, not of the first ones alone."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else list(items)

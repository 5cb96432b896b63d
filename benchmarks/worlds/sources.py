"""Where images come from: what a source is, and how sources are dealt to splits so that none is in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator


class Source(NamedTuple):
    """One piece of material: what it shows, the collection it is from (empty: drawn), and its place there."""

    shows: str
    collection: str
    place: int

    def __str__(self) -> str:
        return f"{self.collection} {self.place}" if self.collection else ""


Pools = dict[str, list[Source]]


def dealt(sources: Sequence[Source], needs: Mapping[str, int], rng: Generator) -> Pools:
    """Shuffled sources for each split, in proportion to the images that it needs."""
    shuffled = [sources[i] for i in rng.permutation(len(sources))]
    ends = np.cumsum([0, *needs.values()]) * len(shuffled) // sum(needs.values())
    return {split: shuffled[start:end] for split, start, end in zip(needs, ends, ends[1:], strict=False)}

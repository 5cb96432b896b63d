"""A split for datasets that have none: seeded, stratified by group, independent of the order of files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fairsynth.data.reading import Entry
from fairsynth.manifest import SPLITS, seed_for


def assign_splits(entries: Sequence[Entry], fractions: Sequence[float], seed: int) -> list[Entry]:
    """Give every entry a split: in each group, in an order that only seed and path decide, the first share is train, then val, then test.

    The borders are rounded to whole images per group, so every group is divided in the given shares.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.label, entry.attribute or entry.true_attribute].append(entry)
    chosen: dict[str, str] = {}
    for members in groups.values():
        ordered = sorted(members, key=lambda e: (seed_for("split", seed, e.path), e.path))
        borders = [round(sum(fractions[: i + 1]) * len(ordered)) for i in range(len(SPLITS))]
        start = 0
        for split, border in zip(SPLITS, [*borders[:-1], len(ordered)], strict=True):
            chosen |= {entry.path: split for entry in ordered[start:border]}
            start = border
    return [entry._replace(split=chosen[entry.path]) for entry in entries]

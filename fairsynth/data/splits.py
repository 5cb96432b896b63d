"""A split for datasets that have none: seeded, stratified by group, independent of the order of files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from fairsynth.data.metadata import Entry
from fairsynth.manifest import SPLITS, seed_for


def assign_splits(entries: Sequence[Entry], fractions: Sequence[float], seed: int) -> list[Entry]:
    """Give every entry a split: in each group, in an order by seed and path alone, first train, then val, then test.

    An attribute to be discovered does not count: the method must not know it.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.label, entry.attribute].append(entry)
    chosen: dict[str, str] = {}
    for members in groups.values():
        ordered = iter(sorted(members, key=lambda e: (seed_for("split", seed, e.path), e.path)))
        for split, size in zip(SPLITS, split_sizes(len(members), fractions), strict=True):
            chosen |= {entry.path: split for entry in islice(ordered, size)}
    return [entry._replace(split=chosen[entry.path]) for entry in entries]


def split_sizes(n: int, fractions: Sequence[float]) -> list[int]:
    """``n`` images in the given shares, rounded; the parts add up.

    A group that has enough images gives at least one to every split with a share, because a rare
    group without validation images cannot be validated. A single image is for training.
    """
    borders = [round(n * sum(fractions[: i + 1])) for i in range(len(fractions) - 1)] + [n]
    sizes = [end - start for start, end in zip([0, *borders], borders, strict=False)]
    wanted = [i for i, share in enumerate(fractions) if share > 0]
    for i in wanted if n >= len(wanted) else ():
        if sizes[i] == 0:
            sizes[max(range(len(sizes)), key=lambda j: sizes[j])] -= 1
            sizes[i] = 1
    return sizes

"""Splits that a dataset does not have: made, or taken from another one; seeded, the same share of every group."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry, Found
from fairsynth.escaping import enumerated
from fairsynth.manifest import SPLITS, TRAIN, seed_for

# What a missing split gets of the one that it is taken from, unless data.split_fractions says otherwise.
_OF_TRAINING, _OF_OTHERS = 0.2, 0.5
# By these the images of a dataset that is refused for its splits are shown all the same.
_TO_LOOK = (0.7, 0.1, 0.2)


def made(
    config: DataConfig,
    entries: Sequence[Entry],
    found: Found,
    usual: Sequence[float] | None,
    columns: Mapping[str, Sequence[str]],
) -> Sequence[Entry]:
    """Entries of a dataset without splits, with one; ``usual``: the format's shares, if it has any.

    ``columns``: those that look like splits and are not in use. To make a split beside them would put a benchmark's test
    images into training, so that people must say that they mean it: ``data.split_column`` empty.
    """
    fractions = config.split_fractions or usual
    if columns:
        found.problem("split", _unused(columns))
        return assign_splits(entries, fractions or _TO_LOOK, config.split_seed)
    if config.split_from:
        found.problem(
            "split_from", "data.split_from is not used: the dataset has no split; use data.split_fractions alone"
        )
    if fractions is None:
        found.problem(
            "split",
            "the dataset has no split; add a column (train, val, test), name the one it has (data.split_column), or let a "
            "seeded split be made: --data.split_fractions '[0.7, 0.1, 0.2]'",
        )
        return assign_splits(entries, _TO_LOOK, config.split_seed)
    shares = ", ".join(f"{share:g}" for share in fractions)
    found.remarks.append(
        f"the dataset has no split of its own: made with shares {shares} and data.split_seed {config.split_seed}"
    )
    return assign_splits(entries, fractions, config.split_seed)


def _unused(columns: Mapping[str, Sequence[str]]) -> str:
    one, words = next(iter(columns.items()))
    return (
        f"column {' and '.join(map(repr, columns))} looks like splits ({enumerated(words)}), and no split is in use: "
        f"--data.split_column {shlex.quote(one)} uses it; --data.split_column '' makes new ones (data.split_fractions)"
    )


def taken(config: DataConfig, found: Found) -> list[Entry]:
    """All entries, where missing splits are taken from others (``data.split_from``)."""
    entries = found.entries
    if config.split_fractions and not config.split_from and entries:
        found.remarks.append("data.split_fractions is not used: the dataset has splits of its own")
    for missing, source in config.split_from.items():
        there = {entry.split for entry in entries}
        share = _share(config, missing, source)
        if missing in there or source not in there:
            has = enumerated(sorted(there)) or "none"
            found.problem("split_from", f"data.split_from takes {missing} from {source}, but the dataset has: {has}")
        elif not 0 < share < 1:
            found.problem(
                "split_from", f"data.split_fractions leaves nothing to {missing} or to {source}; give both a share"
            )
        else:
            entries = _moved(config, entries, missing, source, share, found)
    return entries


def _moved(
    config: DataConfig, entries: list[Entry], missing: str, source: str, share: float, found: Found
) -> list[Entry]:
    fractions = [0.0, 0.0, 0.0]
    fractions[SPLITS.index(source)], fractions[SPLITS.index(missing)] = 1 - share, share
    sizes = Counter(entry[1:4] for entry in entries)
    # An only image stays where it is.
    of_source = [entry for entry in entries if entry.split == source and sizes[entry[1:4]] > 1]
    new = {entry.path: entry for entry in assign_splits(of_source, fractions, config.split_seed)}
    n = sum(entry.split == missing for entry in new.values())
    found.remarks.append(
        f"the dataset has no split {missing} of its own: {n} images are taken from {source} with share {share:g} and "
        f"data.split_seed {config.split_seed}"
    )
    return [new.get(entry.path, entry) for entry in entries]


def _share(config: DataConfig, missing: str, source: str) -> float:
    if config.split_fractions:
        one, other = (config.split_fractions[SPLITS.index(split)] for split in (missing, source))
        return one / (one + other) if one + other else 0.0
    return _OF_TRAINING if source == TRAIN else _OF_OTHERS


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

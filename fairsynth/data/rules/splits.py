"""The split of every image: from the dataset's own words, taken from another split, or made: seeded, by group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry, Found, Metadata, SetAside
from fairsynth.data.rules.split_words import CODES, SPLIT_WORDS, split_of
from fairsynth.escaping import enumerated
from fairsynth.manifest import SPLITS, TRAIN, seed_for

DROP = "drop"
# What a missing split gets of the one that it is taken from, unless data.split_fractions says otherwise.
_OF_TRAINING, _OF_OTHERS = 0.2, 0.5


def with_splits(config: DataConfig, metadata: Metadata, usual: Sequence[float] | None) -> Metadata:
    """Give every entry its split, or set it aside.

    ``usual``: the format's shares for a dataset without splits. Problems: words that are no splits, images without a
    split beside others that have one, a dataset without splits and no shares for it, a split to be taken from one
    that is not there.
    """
    found = Found(metadata)
    words = Counter(entry.split for entry in metadata.entries)
    if [*words] == [""] and "" not in config.split_names:
        found.entries += _made(config, metadata.entries, found, usual)
        return found.metadata
    meant = _meanings(config, words, found)
    for entry in metadata.entries:
        split = meant.get(entry.split)
        if split == DROP:
            found.excluded.append(SetAside(entry.path, "split_dropped", f"split {entry.split!r}"))
        elif split:
            found.entries.append(entry if split == entry.split else entry._replace(split=split))
        else:
            found.quarantined.append(SetAside(entry.path, "no_split" if not entry.split else "unknown_split"))
    _tell_of_unknown(metadata, words, meant, found)
    found.entries[:] = _taken(config, found)
    return found.metadata


def _meanings(config: DataConfig, words: Iterable[str], found: Found) -> dict[str, str]:
    """What each word means, where that is known."""
    meant: dict[str, str] = {}
    for word in words:
        known = config.split_names.get(word) or (split_of(word) if word else None)
        if known:
            meant[word] = known
    rest = {word for word in words if word and word not in meant}
    # With two codes alone it would be open whether 1 is validation or test.
    if rest == {*CODES}:
        meant |= CODES
        found.remarks.append("the split's values 0, 1, 2 are taken as train, val, test")
    return meant


def _tell_of_unknown(metadata: Metadata, words: Mapping[str, int], meant: Mapping[str, str], found: Found) -> None:
    first = {entry.split: entry.path for entry in reversed(metadata.entries)}
    for word in sorted({*words} - {*meant}):
        way = f"say what it is (train, val, test), or leave these out: --data.split_names '{{{_yaml(word)}: drop}}'"
        if word:
            where = f"{words[word]} images, first: {first[word]!r}"
            problem = f"split is {word!r}; allowed: {SPLIT_WORDS}; {where}; {way}"
        else:
            problem = f"{words[word]} images have no split, the others have one; first: {first[word]!r}; {way}"
        found.problem(f"split {word}", problem)


def _yaml(word: str) -> str:
    return word if word.isalpha() else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _made(config: DataConfig, entries: Sequence[Entry], found: Found, usual: Sequence[float] | None) -> Sequence[Entry]:
    fractions = config.split_fractions or usual
    if fractions is None:
        found.problem(
            "split",
            "the dataset has no split; add a column (train, val, test), or let a seeded split be made: "
            "--data.split_fractions '[0.7, 0.1, 0.2]'",
        )
        return entries
    shares = ", ".join(f"{share:g}" for share in fractions)
    found.remarks.append(
        f"the dataset has no split of its own: made with shares {shares} and data.split_seed {config.split_seed}"
    )
    return assign_splits(entries, fractions, config.split_seed)


def _taken(config: DataConfig, found: Found) -> list[Entry]:
    """The entries, where a missing split is taken from another one (``data.split_from``)."""
    entries = found.entries
    there = {entry.split for entry in entries}
    if config.split_fractions and not config.split_from and there:
        found.remarks.append("data.split_fractions is not used: the dataset has splits of its own")
    for missing, source in config.split_from.items():
        if missing in there or source not in there:
            has = enumerated(sorted(there)) or "none"
            found.problem("split_from", f"data.split_from takes {missing} from {source}, but the dataset has: {has}")
            continue
        share = _share(config, missing, source)
        kept_and_taken = [0.0, 0.0, 0.0]
        kept_and_taken[SPLITS.index(source)], kept_and_taken[SPLITS.index(missing)] = 1 - share, share
        sizes = Counter(entry[1:4] for entry in entries)
        # An only image stays where it is.
        of_source = [entry for entry in entries if entry.split == source and sizes[entry[1:4]] > 1]
        new = {entry.path: entry for entry in assign_splits(of_source, kept_and_taken, config.split_seed)}
        entries = [new.get(entry.path, entry) for entry in entries]
        n = sum(entry.split == missing for entry in entries)
        found.remarks.append(
            f"the dataset has no split {missing} of its own: {n} images are taken from {source} with share {share:g} and "
            f"data.split_seed {config.split_seed}"
        )
    return entries


def _share(config: DataConfig, missing: str, source: str) -> float:
    if config.split_fractions:
        one, other = (config.split_fractions[SPLITS.index(split)] for split in (missing, source))
        return one / (one + other)
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

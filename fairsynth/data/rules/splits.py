"""The split of every image, from the dataset's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Found, Metadata, SetAside
from fairsynth.data.rules.split_making import made, taken
from fairsynth.data.rules.split_words import CODES, DROP, SPLIT_WORDS, exact_split, meaning, split_meant
from fairsynth.escaping import enumerated

# What YAML reads as something else than text if it has no quotes.
_NOT_TEXT = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def with_splits(
    config: DataConfig,
    metadata: Metadata,
    usual: Sequence[float] | None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Metadata:
    """Give every entry its split, or set it aside.

    ``usual``: the format's shares for a dataset without splits. ``columns``: of its table, those that look like splits
    and are not in use, with their words. Problems: words that are no splits, images without a
    split beside others that have one, a dataset without splits and no shares for it, a split to be taken from one
    that is not there.
    """
    found = Found(metadata)
    words = Counter(entry.split for entry in metadata.entries)
    dropped = {image.reason for image in metadata.excluded} & {"split_dropped"}  # by the reader, with their folder
    unused = sorted(
        name for name, split in config.split_names.items() if name not in words and not (dropped and split == DROP)
    )
    if unused:
        found.remarks.append(f"data.split_names: no image has the split {enumerated(map(repr, unused))}")
    if [*words] == [""] and "" not in config.split_names:
        found.entries += made(config, metadata.entries, found, usual, columns or {})
        return found.metadata
    meant = _meanings(config, words, found)
    for entry in metadata.entries:
        # A misspelt word is a problem, but not that its split has no images.
        split = meant.get(entry.split) or exact_split(split_meant(entry.split) or "")
        if split == DROP:
            found.excluded.append(SetAside(entry.path, "split_dropped", f"split {entry.split!r}"))
        elif split:
            found.entries.append(entry if split == entry.split else entry._replace(split=split))
        else:
            found.quarantined.append(SetAside(entry.path, "unknown_split" if entry.split else "no_split"))
    _tell_of_unknown(metadata, words, meant, found)
    found.entries[:] = taken(config, found)
    return found.metadata


def _meanings(config: DataConfig, words: Mapping[str, int], found: Found) -> dict[str, str]:
    """What each word means, where that is known."""
    meant = {word: known for word in words if (known := meaning(word, config.split_names))}
    rest = {word for word in words if word and word not in meant}
    # With two codes alone it would be open whether 1 is validation or test.
    if rest == {*CODES}:
        meant |= CODES
        found.remarks.append("the split's values 0, 1, 2 are taken as train, val, test")
    unusual = [f"{w} as {split}" for w, split in sorted(meant.items()) if w not in {*CODES, *config.split_names}
               and not exact_split(w)]  # fmt: skip
    if unusual:
        found.remarks.append(f"taken as splits: {enumerated(unusual)}")
    return meant


def _tell_of_unknown(metadata: Metadata, words: Mapping[str, int], meant: Mapping[str, str], found: Found) -> None:
    first = {entry.split: entry.path for entry in reversed(metadata.entries)}
    for word in sorted({*words} - {*meant}):
        way = f"say what it is (train, val, test), or leave these out: --data.split_names '{{{_yaml(word)}: drop}}'"
        near = split_meant(word)
        if near:
            where = f"{words[word]} images, first: {first[word]!r}"
            problem = (
                f"split is {word!r} (did you mean {near!r}?); {where}; if so, correct the metadata, or: "
                f"--data.split_names '{{{_yaml(word)}: {exact_split(near)}}}'"
            )
        elif word:
            where = f"{words[word]} images, first: {first[word]!r}"
            problem = f"split is {word!r}; allowed: {SPLIT_WORDS}; {where}; {way}"
        else:
            problem = f"{words[word]} images have no split, the others have one; first: {first[word]!r}; {way}"
        found.problem(f"split {word}", problem)


def _yaml(word: str) -> str:
    plain = word.isalpha() and word.lower() not in _NOT_TEXT
    return word if plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

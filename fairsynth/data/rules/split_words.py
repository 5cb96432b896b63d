"""Words for splits, as people name columns' values, folders and shards: train, val and test in many spellings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from fairsynth.config.values import plain_value
from fairsynth.manifest import SPLITS, TEST, TRAIN, VALIDATION

# What data.split_names says of images that are left out.
DROP = "drop"
SPLIT_WORDS = "train (training), val (valid, validation, dev), test (testing)"
# WILDS, Group-DRO and CelebA write numbers.
CODES = dict(zip(("0", "1", "2"), SPLITS, strict=True))
_SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
# So like must a misspelt word be: trian is train, text is not test.
_LIKE = 0.8
# Words that say nothing: training_set, val2017, seg_test, Train_data.
_THINGS = "set|sets|data|dataset|image|images|img|imgs|photos|pictures|pics|files|samples|split|folder|seg"
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLITS, key=len, reverse=True))})({_THINGS})")


def exact_split(word: str) -> str | None:
    """train, val or test from the very word or a usual synonym; None for any other word."""
    return _SPLITS.get(word.strip().casefold())


def split_meant(word: str) -> str | None:
    """The word for a split that a misspelt one is like: validation for validaton; None if none is."""
    near = difflib.get_close_matches(word.strip().casefold(), _SPLITS, n=1, cutoff=_LIKE)
    return near[0] if near else None


def split_of(word: str) -> str | None:
    """The same where numbers and words such as ``set`` or ``images`` stand beside it: training_set, val2017.

    None for a word with any other part, and for two splits in one word.
    """
    splits = set()
    for part in re.findall(r"[^\W\d_]+", word.casefold()):
        joined = _JOINED.fullmatch(part)
        split = _SPLITS.get(joined[1] if joined else part)
        if split:
            splits.add(split)
        elif not re.fullmatch(_THINGS, part):
            return None
    return splits.pop() if len(splits) == 1 else None


def meaning(word: str, names: Mapping[str, str]) -> str | None:
    """What a word means: as ``names`` (``data.split_names``) says, else by itself; None for a word that is no split.

    May be ``DROP``: the images are to be left out.
    """
    return names.get(plain_value(word.strip())) or split_of(word)


def split_in(name: str, names: Mapping[str, str]) -> str:
    """The word of a file's name that is its split; empty if there is none, or if there are several that differ."""
    whole = re.findall(r"[^\W_]+", name)
    # A word that was given a meaning goes before those that have one by themselves.
    words = [word for word in whole if word in names] or [*whole, *re.findall(r"[^\W\d_]+", name)]
    found = {split: word for word in reversed(words) if (split := meaning(word, names))}
    return next(iter(found.values())) if len(found) == 1 else ""

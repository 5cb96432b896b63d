"""What was meant: the nearest of the words that are allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_NEAR = 0.6
_LONGEST = 200  # characters; what is longer is no misspelt word, and to compare it takes long


def nearest(word: str, known: Iterable[str], cutoff: float = _NEAR) -> str | None:
    """The known word that is spelled most like this one, whatever the case; None if none is near."""
    if len(word) > _LONGEST:
        return None
    by_spelling: dict[str, str] = {}
    for name in known:
        by_spelling.setdefault(name.casefold(), name)
    near = difflib.get_close_matches(word.casefold(), by_spelling, n=1, cutoff=cutoff)
    return by_spelling[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], cutoff: float = _NEAR) -> str:
    """The same as the end of a sentence; empty if none is near."""
    near = nearest(word, known, cutoff)
    return "" if near is None else f" (did you mean {near!r}?)"

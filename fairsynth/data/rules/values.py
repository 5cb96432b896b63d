"""Values that are nearly the same: what may be one value in two spellings is told, or refused."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction

from fairsynth.data.metadata import Found, Metadata
from fairsynth.escaping import enumerated

_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_NOTHING = {"nan", "none", "null", "n/a", "na", "<na>", "nat"}
_LONGEST = 40  # of a number: what is longer is a name


def with_spellings_compared(metadata: Metadata) -> Metadata:
    """Compare the labels with one another, and the attributes.

    Two spellings of one number (1 and 01) are a problem; values that differ by case, blanks, invisible signs or
    Unicode's compatible forms stay apart with a remark.
    """
    found = Found(metadata)
    found.entries += metadata.entries
    for what, index in (("label", 2), ("attribute", 3)):
        values = sorted({str(entry[index]) for entry in metadata.entries})
        nothing = [value for value in values if value.strip().lower() in _NOTHING]
        if nothing:
            found.remarks.append(
                f"{what}: {_all(nothing)} taken as a value; where nothing is known, leave the cell empty"
            )
        words: dict[str, list[str]] = defaultdict(list)
        for value in values:
            if value in metadata.words.get(what, {}):
                words[metadata.words[what][value]].append(value)
        for word, codes in words.items():
            if len(codes) > 1:
                found.remarks.append(
                    f"{what}: {_all(codes)} have one word, {word!r}, and are different values all the same"
                )
        for numbers in _alike(values, _number):
            found.problem(
                what, f"{what}: {_all(numbers)} are the same number, taken as different values; write them alike"
            )
        for others in _alike(values, _folded):
            if len({_number(value) for value in others} - {None}) != 1:
                found.remarks.append(
                    f"{what}: {_all(others)} differ by case, blanks or form of signs alone, and are taken as different "
                    "values; if they are one, write them alike"
                )
    return found.metadata


def _alike(values: Iterable[str], key: object) -> list[Sequence[str]]:
    sets: dict[object, list[str]] = defaultdict(list)
    for value in values:
        if (place := key(value)) is not None:  # type: ignore[operator]
            sets[place].append(value)
    return [members for members in sets.values() if len(members) > 1]


def _all(values: Sequence[str]) -> str:
    return enumerated([repr(value) for value in values])


def _number(value: str) -> Fraction | None:
    text = value.strip()
    return Fraction(text) if len(text) <= _LONGEST and _DECIMAL.fullmatch(text) else None


def _folded(value: str) -> str:
    """Without case, blanks and what cannot be seen."""
    plain = unicodedata.normalize("NFKC", value).casefold()
    return "".join(sign for sign in plain if not sign.isspace() and unicodedata.category(sign) not in ("Cf", "Cc"))

"""What a measured figure in a page is, and which of them a list of sayings covers.

A measured figure is a number with a unit that things are measured in (%, seconds, GB, images a second, points, times),
or one with a decimal point; not inside code, not in a heading or the head of a table. Degrees of bias, confidence
levels, names of models and versions are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.support.docs.pages import prose

_NUMBER = r"(?<![\w.,/])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
_UNIT = r"\s?(?:%|m?s\b|GB\b|points?\b|images/s|samples/s|TFLOP/s|times\b|minutes\b|hours?\b)"
_LIST = rf"(?:{_NUMBER},? (?:(?:and|to|–|of|or) )?)*"
_MEASURED = re.compile(rf"{_LIST}{_NUMBER}{_UNIT}|(?<![\w./])[+-]?\d[\d,]*\.\d+(?:e-?\d+)?(?![\w.])")
_LEVEL = r"(?:90|95|99|99\.9)"
_NO_FIGURE = re.compile(
    rf"\b(?:[Aa]t|from) (?:{_LEVEL}(?:,| and| to) )*{_LEVEL} %"
    r"|\b95 % (?:intervals?|over)\b"
    r"|\b(?:Stable Diffusion|SD|torch|License|Apache|arXiv|of) \d+\.[\dx]+(?!\d* %)\b"
)


def flat(page: str) -> str:
    """The page's text on one line: without blocks of code, headings, heads of tables, and links' targets."""
    text = re.sub(r"^#+ .*$", "", prose(page), flags=re.MULTILINE)
    text = re.sub(r"^\|.*\|\n(?=\| *:?-+)", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"[*\[\]!]", "", " ".join(text.split()))


def figures(text: str) -> list[tuple[int, int]]:
    """Where the measured figures of a flat text are."""
    none = [found.span() for pattern in (_NO_FIGURE, re.compile(r"`[^`]*`")) for found in pattern.finditer(text)]
    spans = [found.span() for found in _MEASURED.finditer(text)]
    return [one for one in spans if not any(start <= one[0] and one[1] <= end for start, end in none)]


def said(template: str, *values: str) -> str:
    """A text of a page, its figures put in; raises AssertionError for a figure that stands in the text itself."""
    bare = template.replace("{}", "")
    assert not figures(bare), f"a figure that is not computed: {template}"
    return template.format(*values)


def uncovered(page: str, sayings: Iterable[str]) -> tuple[list[str], list[str]]:
    """Measured figures of a page, with what stands around them, that none of the sayings has; sayings that it lacks."""
    text = flat(page)
    covered, missing = [], []
    for saying in map(flat, sayings):
        places = [found.span() for found in re.finditer(re.escape(saying), text)]
        covered += places
        missing += [] if places else [saying]
    bare = [one for one in figures(text) if not any(start <= one[0] and one[1] <= end for start, end in covered)]
    return [text[max(0, start - 50) : end + 30] for start, end in bare], missing

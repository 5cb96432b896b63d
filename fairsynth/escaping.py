"""Text from data is hostile: labels, prompts and file names made harmless for a terminal and for Markdown, and short."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from unicodedata import category

SHOWN = 10
_LONGEST_LINE = 2000
_KEPT = "\n\t\u200c\u200d"


def plain(value: Any) -> str:
    """As text of a line or of a table's cell."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#+!|~&@])", r"\\\1", _flat(value))
    # GitHub's Markdown makes links of bare addresses.
    return re.sub(r"(:(?=//)|(?<=\bwww)\.)", r"\\\1", escaped, flags=re.IGNORECASE)


def code(value: Any) -> str:
    """As code."""
    return f"`{_flat(value).replace('`', chr(39)).replace('|', '/')}`"


def _flat(value: Any) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def printable(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def legible(text: str) -> str:
    """The text for a page: lines, spaces of all kinds and the joiners that some scripts need stay; what would steer a reader or turn text round
    is replaced.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in _KEPT or category(c) == "Zs" else "?" for c in lines)


def enumerated(items: Iterable[object], between: str = ", ", most: int = SHOWN) -> str:
    """The first ten items in a line, and how many more there are."""
    texts = [printable(str(item)) for item in items]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more


def shortened(line: str) -> str:
    """The line without its middle if it has more than 2,000 characters: what went wrong, and what to do."""
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} [...] {line[-half:]}"

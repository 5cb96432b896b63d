"""Text from data is hostile: labels, prompts and file names made harmless for a terminal and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def plain(value: Any) -> str:
    """As text of a line or of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", _flat(value))


def code(value: Any) -> str:
    """As code."""
    return f"`{_flat(value).replace('`', chr(39)).replace('|', '/')}`"


def _flat(value: Any) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def printable(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def listed(items: Sequence[str], most: int = 10) -> str:
    """Items in a sentence: the first of them, and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")

"""Text from data, made harmless for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)

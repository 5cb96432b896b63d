"""The error of an image that cannot be used."""

from __future__ import annotations


class BadImage(Exception):
    """An image that cannot be used; ``reason`` is one word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

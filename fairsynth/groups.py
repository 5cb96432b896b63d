"""Groups: pairs of label and attribute."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.escaping import printable

SEPARATOR = ", "  # between the parts of an attribute that several columns make up


class Group(NamedTuple):
    """A pair (label, attribute), both text."""

    label: str
    attribute: str

    def __str__(self) -> str:
        return f"({printable(self.label)}, {printable(self.attribute)})"

    @property
    def slug(self) -> str:
        """A folder name: readable, safe, and unique (text that had to be changed gets a hash)."""
        text = f"{self.label}--{self.attribute}"
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:60] or "group"
        # A label may itself contain the separator: the hash keeps such groups apart.
        ambiguous = "--" in self.label or "--" in self.attribute or self.label[-1:] == "-" or self.attribute[:1] == "-"
        plain = safe == text and not ambiguous
        return safe if plain else f"{safe}-{hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:8]}"


def group_index(labels_N: NDArray[np.int64], attributes_N: NDArray[np.int64], n_attributes: int) -> NDArray[np.int64]:
    """g = y * n_attributes + a (the field's convention)."""
    return labels_N * n_attributes + attributes_N

"""Groups: pairs of label and attribute."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.escaping import printable

if TYPE_CHECKING:
    import pyarrow as pa

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


def coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """The place of each value among the values that there are, int64 (N,), and these as they first occur."""
    whole = column.dictionary_encode("encode").unify_dictionaries().combine_chunks()
    return whole.indices.to_numpy(zero_copy_only=False).astype(np.int64), whole.dictionary.to_pylist()


def grouped(table: pa.Table) -> tuple[NDArray[np.int64], list[Group]]:
    """The place of each row's group among those that a table has, int64 (N,), and these as they first occur."""
    (labels_N, labels), (attributes_N, attributes) = (coded(table[name]) for name in Group._fields)
    n = max(1, len(attributes))
    numbers, first, places_N = np.unique(group_index(labels_N, attributes_N, n), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[places_N], [Group(labels[i // n], attributes[i % n]) for i in numbers[order].tolist()]


def counted(table: pa.Table) -> Counter[Group]:
    """Rows of each group, in the order of ``grouped``."""
    places_N, kinds = grouped(table)
    return Counter(dict(zip(kinds, np.bincount(places_N, minlength=len(kinds)).tolist(), strict=True)))

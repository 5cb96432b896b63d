"""What every reader returns, and how fields become label, attribute and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fairsynth.config import DataConfig
from fairsynth.groups import SEPARATOR
from fairsynth.manifest import TEST, TRAIN, VALIDATION

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


class Entry(NamedTuple):
    """One image of a dataset, before its file was looked at.

    ``path``: unique in the dataset, relative, valid Unicode. ``location``: see ``fairsynth.data.location``;
    empty for a file of its own. ``split``: train, val, test, or empty where the dataset has none.
    ``true_attribute``: known but hidden from the method (``data.attribute: discover``).
    """

    path: str
    split: str
    label: str
    attribute: str
    location: str = ""
    true_attribute: str = ""


class SetAside(NamedTuple):
    """An image or file that is not used, and why."""

    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Metadata:
    """A dataset's metadata: entries in a fixed order, what cannot be used, what is left out on purpose, remarks."""

    entries: list[Entry]
    quarantined: list[SetAside] = field(default_factory=list)
    excluded: list[SetAside] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fields:
    """Which fields of a row are label, attribute and split."""

    label: str
    attributes: tuple[str, ...]
    discover: bool

    @classmethod
    def of(cls, config: DataConfig, label: str, attribute: str) -> Fields:
        """From the config, with a format's own fields as default."""
        discover = config.attribute == "discover"
        attributes = config.attribute_column or (() if discover or not attribute else (attribute,))
        return cls(config.label_column or label, attributes, discover)

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(dict.fromkeys((self.label, *self.attributes)))

    def entry(self, row: Mapping[str, str], path: str, split: str, location: str = "") -> Entry:
        """The entry of a row."""
        attribute = combine(self.attributes, [row[name] for name in self.attributes])
        visible, hidden = ("", attribute) if self.discover else (attribute, "")
        return Entry(path, split, row[self.label], visible, location, hidden)


def combine(names: Sequence[str], values: Sequence[str]) -> str:
    """Combine attributes into one: a single value stays as it is, several become ``name=value, name=value``.

    Empty if any of them is empty: the combination is then unknown.
    """
    if len(names) == 1:
        return values[0]
    return SEPARATOR.join(f"{n}={v}" for n, v in zip(names, values, strict=True)) if all(values) else ""


def split_of(word: str) -> str | None:
    """train, val or test from a split's name or a usual synonym; None for any other word."""
    return _SPLITS.get(word.strip().lower())


class BadImage(Exception):
    """An image that cannot be used; ``reason`` is one word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

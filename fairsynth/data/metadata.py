"""What every reader returns, and how fields become label and attribute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fairsynth.config import DataConfig
from fairsynth.config.values import plain_value
from fairsynth.errors import DataError
from fairsynth.groups import SEPARATOR


class Entry(NamedTuple):
    """One image of a dataset, before its file was looked at.

    ``path``: unique in the dataset, relative, valid Unicode. ``location``: see ``fairsynth.data.location``;
    empty for a file of its own. ``split``: as a reader gives it, the dataset's own word for it,
    or empty where it has none; in checked metadata train, val or test.
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
    """A dataset's metadata: entries in a fixed order, what cannot be used, what is left out on purpose, remarks.

    ``problems``: why a run refuses it. ``words``: for label and attribute, the words that the dataset itself gives for
    their values.
    """

    entries: list[Entry]
    quarantined: list[SetAside] = field(default_factory=list)
    excluded: list[SetAside] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    words: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Images and rows that are used or set aside: what came in."""
        return len(self.entries) + len(self.quarantined) + len(self.excluded)


class Found:
    """What a reader or a rule finds, one by one; equal problems of many rows become one, with their number."""

    def __init__(self, start: Metadata | None = None) -> None:
        start = start or Metadata([])
        self.entries: list[Entry] = []
        self.quarantined, self.excluded = list(start.quarantined), list(start.excluded)
        self.remarks = list(start.remarks)
        self.words = {what: dict(named) for what, named in start.words.items()}
        self._first = {problem: problem for problem in start.problems}
        self._more = Counter[str]()

    def name_values(self, words: Mapping[str, Mapping[str, str]], where: str) -> None:
        """Note the words that a file of the dataset gives; two files must not give a value different ones."""
        for what, named in words.items():
            known = self.words.setdefault(what, {})
            for value, word in named.items():
                if known.setdefault(value, word) != word:
                    problem = f"{what} {value!r} is {known[value]!r} in one file and {word!r} in {where}; write the files alike"
                    self.problem(f"words {what} {value}", problem)

    def refuse(self, path: str, reason: str, problem: str) -> None:
        """Set an image aside for which a run refuses the dataset."""
        self.quarantined.append(SetAside(path, reason, problem))
        self.problem(reason, problem)

    def problem(self, kind: str, text: str) -> None:
        """Note why a run refuses the dataset; of each kind the first text is told."""
        if self._first.setdefault(kind, text) is not text:
            self._more[kind] += 1

    @property
    def metadata(self) -> Metadata:
        """All that was found."""
        problems = [
            text + (f" (and {n} more like it)" if (n := self._more[k]) else "") for k, text in self._first.items()
        ]
        return Metadata(self.entries, self.quarantined, self.excluded, self.remarks, problems, self.words)


@dataclass(frozen=True)
class Fields:
    """Which fields of a row are label, attribute and split."""

    label: str
    attributes: tuple[str, ...]
    discover: bool

    @classmethod
    def of(cls, config: DataConfig, label: str, attribute: str) -> Fields:
        """From the config, with a format's own fields as default. Raises DataError for a field that is both."""
        discover = config.attribute == "discover"
        attributes = config.attribute_column or (() if discover or not attribute else (attribute,))
        label = config.label_column or label
        if label in attributes:
            raise DataError(
                f"{label} is both label and attribute; choose another: --data.label_column or --data.attribute_column"
            )
        return cls(label, attributes, discover)

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(dict.fromkeys((self.label, *self.attributes)))

    def entry(self, row: Mapping[str, str], path: str, split: str, location: str = "") -> Entry:
        """The entry of a row."""
        attribute = combine(self.attributes, [plain_value(row[name]) for name in self.attributes])
        visible, hidden = ("", attribute) if self.discover else (attribute, "")
        return Entry(path, plain_value(split.strip()), plain_value(row[self.label]), visible, location, hidden)


def combine(names: Sequence[str], values: Sequence[str]) -> str:
    """Combine attributes into one: a single value stays as it is, several become ``name=value, name=value``.

    Empty if any of them is empty: the combination is then unknown.
    """
    if len(names) == 1:
        return values[0]
    return SEPARATOR.join(f"{n}={v}" for n, v in zip(names, values, strict=True)) if all(map(str.strip, values)) else ""


class BadImage(Exception):
    """An image that cannot be used; ``reason`` is one word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

"""Bias severity: fewer of the training images whose attribute goes against their label.

At ratio r a label keeps all n images of its aligned attribute and at most ceil(n * (1 - r) / r) of the
others, so a share of at least r is aligned, up to rounding. The order in which images go depends on seed and path
alone: a more severe set lies inside a less severe one, on every machine.

The rule is that of From Fake to Real (ECCV 2024). Of the 16 training sizes in its split files from 0.95 on (UTKFace and
CelebA-HQ smiling, two labels, four levels) 15 are these; CelebA-HQ's not smiling at 0.97 is 166, where 5335 * 0.03 / 0.97
is 165 exactly: its code computes in floating point, which comes out a little higher and is rounded up. Its 16 validation
sizes at these levels are these with ``VALIDATION_FLOOR``. Its files at 0.9, the least severe level, are rounded down: one
image less than here in each of the four training sizes.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fairsynth.config.suggest import did_you_mean
from fairsynth.data.metadata import Entry
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated, printable
from fairsynth.manifest import TRAIN, VALIDATION, image_id, seed_for

VALIDATION_FLOOR = 10


@dataclass(frozen=True)
class Level:
    """A severity level of one dataset: what is kept, what is left out, and how that was decided."""

    ratio: float
    seed: int
    aligned: dict[str, str]
    kept: list[Entry]
    removed: list[Entry]

    @property
    def kept_ids(self) -> list[str]:
        """image_id of every kept training image, sorted."""
        return sorted(image_id(entry.path) for entry in self.kept if entry.split == TRAIN)

    @property
    def coarse(self) -> list[str]:
        """Labels that do not come as near to the ratio as was asked, in words: a rare image of each stays."""
        counts = Counter((e.label, _attribute(e)) for e in self.kept if e.split == TRAIN)
        told = []
        for label, attribute in sorted(self.aligned.items()):
            n, total = counts[label, attribute], sum(n for (of, _), n in counts.items() if of == label)
            if total - n == 1 and n / total < self.ratio:
                told.append(
                    f"{label}: {n / total:.2%} of the training images are {attribute}, not {100 * self.ratio:g}%, as one other stays"
                )
        return told

    @property
    def record(self) -> dict[str, Any]:
        """The level for artifacts and reports; ``sha256`` is of the kept ids, one per line."""
        counts = Counter((e.label, _attribute(e)) for e in self.kept if e.split == TRAIN)
        gone = Counter(e.split for e in self.removed)
        return {
            "ratio": self.ratio,
            "seed": self.seed,
            "aligned": self.aligned,
            "kept": len(self.kept_ids),
            "removed": gone[TRAIN],
            "removed_validation": gone[VALIDATION],
            "train": [{"label": y, "attribute": a, "n": n} for (y, a), n in sorted(counts.items())],
            "sha256": hashlib.sha256("".join(f"{i}\n" for i in self.kept_ids).encode()).hexdigest(),
        }


def conflicting_allowed(aligned: int, ratio: float) -> int:
    """How many conflicting images stay beside ``aligned`` ones: ceil(aligned * (1 - r) / r), in exact arithmetic."""
    r = Fraction(str(ratio))
    return math.ceil(aligned * (1 - r) / r)


def at_severity(
    entries: Sequence[Entry],
    ratio: float,
    seed: int,
    aligned: Mapping[str, str] | None = None,
    validation: bool = False,
) -> Level:
    """Bring the training entries to a ratio; test stays as it is, and so does validation.

    With ``validation`` the validation entries are brought to it too, but keep ``VALIDATION_FLOOR`` images of each label
    that go against it, if it has as many (as From Fake to Real does).
    Raises DataError: ``aligned`` names an unknown value, no correlation would result, or the
    dataset has fewer conflicting images than the ratio asks for.
    """
    members = _members(entries, TRAIN)
    pairs = _pairs(members, dict(aligned or {}))
    removed: set[str] = set()
    for label, attribute in pairs.items():
        allowed = conflicting_allowed(len(members[label][attribute]), ratio)
        others = {a: its for a, its in members[label].items() if a != attribute}
        have = sum(map(len, others.values()))
        # One image is rounding; more means a dataset that is more severe than asked for.
        if have < allowed - 1:
            actual = len(members[label][attribute]) / max(1, len(members[label][attribute]) + have)
            raise DataError(
                f"data.severity {ratio:g} needs {allowed} images of label {printable(label)!r} that go against "
                f"{printable(attribute)!r}, but there are {have}: it is at {actual:.2%} already; choose a higher severity, or original"
            )
        removed |= {entry.path for entry in _order(others, seed)[allowed:]}
    if validation:
        removed |= _from_validation(entries, pairs, ratio, seed)
    kept = [entry for entry in entries if entry.path not in removed]
    return Level(ratio, seed, pairs, kept, [entry for entry in entries if entry.path in removed])


def _from_validation(entries: Sequence[Entry], pairs: Mapping[str, str], ratio: float, seed: int) -> set[str]:
    """Paths of the validation images to remove."""
    members, removed = _members(entries, VALIDATION), set[str]()
    for label, attribute in pairs.items():
        allowed = max(VALIDATION_FLOOR, conflicting_allowed(len(members[label][attribute]), ratio))
        others = {a: its for a, its in members[label].items() if a != attribute}
        removed |= {entry.path for entry in _order(others, seed)[allowed:]}
    return removed


def _members(entries: Sequence[Entry], split: str) -> dict[str, dict[str, list[Entry]]]:
    """The entries of a split by label and attribute."""
    members: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if (
            entry.split == split and _attribute(entry).strip()
        ):  # what is not known goes neither with nor against a label
            members[entry.label][_attribute(entry)].append(entry)
    return members


def _attribute(entry: Entry) -> str:
    return entry.attribute or entry.true_attribute


def _pairs(members: Mapping[str, Mapping[str, list[Entry]]], given: dict[str, str]) -> dict[str, str]:
    """The aligned attribute of each label: as given, or that of its largest training group."""
    attributes = {a for groups in members.values() for a in groups}
    if attributes <= {""}:
        raise DataError(
            "data.severity needs the attribute of the images; the dataset has none: give data.attribute_column, or leave "
            "data.severity at original"
        )
    for label, attribute in given.items():
        if label not in members or attribute not in attributes:
            wrong, known = (label, [*members]) if label not in members else (attribute, [*attributes])
            raise DataError(
                f"data.aligned says {label}: {attribute}{did_you_mean(wrong, known)}, but the training split has the labels "
                f"{enumerated(sorted(members))} and the attributes {enumerated(sorted(attributes))}"
            )
        if attribute not in members[label]:
            raise DataError(
                f"data.aligned says {label}: {attribute}, but no training image of {label} has that attribute; nothing would be left of it"
            )
    if given:
        return given
    pairs = {label: min(groups, key=lambda a: (-len(groups[a]), a)) for label, groups in sorted(members.items())}
    if len(set(pairs.values())) == 1:
        raise DataError(
            f"every label's largest training group has the attribute {next(iter(pairs.values()))!r}: fewer of the others would tie no "
            'label to an attribute; say which pairs are aligned, for example --data.aligned \'{"LABEL": "ATTRIBUTE"}\''
        )
    return pairs


def _order(others: Mapping[str, list[Entry]], seed: int) -> list[Entry]:
    """Conflicting images, those that stay longest first; every attribute has about its share of any prefix."""
    keyed = []
    for attribute in sorted(others):
        shuffled = sorted(others[attribute], key=lambda e: (seed_for("severity", seed, e.path), e.path))
        keyed += [((rank + 0.5) / len(shuffled), attribute, entry) for rank, entry in enumerate(shuffled)]
    return [entry for _, _, entry in sorted(keyed, key=lambda item: item[:2])]

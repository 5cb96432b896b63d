"""How many images each group has in each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fairsynth.config import RunConfig
from fairsynth.data.severity import conflicting_allowed
from fairsynth.demo.dataset import ALIGNED, ATTRIBUTES, SPLIT_SIZES
from fairsynth.demo.place import SEVERITY as DEMO_SEVERITY
from fairsynth.groups import Group
from fairsynth.manifest import SPLITS, TRAIN


@dataclass(frozen=True)
class Counted:
    """Images of each group in each split; ``named``: all that the metadata names. ``notes``: what the counts leave open."""

    splits: Mapping[str, Counter[Group]]
    named: int
    notes: tuple[str, ...] = ()
    exact: bool = True
    by_columns: bool = False
    """Whether they come from a table's columns: the metadata then has no file names."""

    @property
    def used(self) -> int:
        """Images in all splits."""
        return sum(sum(groups.values()) for groups in self.splits.values())

    def total(self, *splits: str) -> int:
        """Images of some splits."""
        return sum(sum(self.splits[split].values()) for split in splits)


def of_kinds(kinds: Counter[tuple[str, str, str]], named: int) -> Counted:
    """Counts by split, label and attribute."""
    splits: dict[str, Counter[Group]] = {split: Counter() for split in SPLITS}
    for (split, label, attribute), n in kinds.items():
        splits[split][Group(label, attribute)] += n
    return Counted(splits, named)


def of_demo(config: RunConfig) -> Counted:
    """The built-in dataset before it is written: totals are exact, groups are so up to the draw of the digits."""
    severity, splits = config.data.severity or DEMO_SEVERITY, dict[str, Counter[Group]]()
    for split, n in SPLIT_SIZES.items():
        groups = splits[split] = Counter[Group]()
        for label, half in zip(sorted(ALIGNED), (n // 2, n - n // 2), strict=True):
            rare = max(1, round(half * (1 - min(severity, DEMO_SEVERITY))))
            aligned = half - rare
            rare = min(rare, conflicting_allowed(aligned, severity)) if severity > DEMO_SEVERITY else rare
            for attribute in ATTRIBUTES:
                sizes = (aligned if attribute == ALIGNED[label] else rare) if split == TRAIN else half
                groups[Group(label, attribute)] = sizes
    note = "the built-in dataset is not written yet: its totals are exact, how many images a group has is about right"
    total = sum(sum(groups.values()) for groups in splits.values())
    return Counted(splits, total, (note,), exact=False)

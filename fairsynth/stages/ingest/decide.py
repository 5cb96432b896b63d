"""From metadata to a checked manifest; nothing is dropped without a reason.

``check_groups`` looks at the metadata alone; ``decide_manifest`` decides what the manifest holds after
``fairsynth.stages.ingest.content`` has looked at the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from fairsynth.artifacts import Counts
from fairsynth.config import DataConfig, RunConfig
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated
from fairsynth.groups import Group
from fairsynth.manifest import SCHEMA, SET_ASIDE, SPLITS, TEST, TRAIN, VALIDATION, Manifest, image_id
from fairsynth.stages.ingest import content
from fairsynth.stages.ingest.content import Examined, examine, wrong_extensions

VERSION = 3
_EXTRA = {"location": pa.string(), "duplicate_of": pa.string(), "true_attribute": pa.string(), "format": pa.string()}


def check_groups(entries: Sequence[Entry], config: DataConfig) -> list[str]:
    """Remarks on groups that a split lacks. Raises DataError with the first of ``group_problems``."""
    for problem in group_problems(entries, config):
        raise DataError(problem)
    return [] if config.attribute == "discover" else _remarks(entries)


def group_problems(entries: Sequence[Entry], config: DataConfig) -> Iterator[str]:
    """Why nothing fair can be learnt from these groups.

    Every split must have images, the dataset two labels and two attributes, and (or ``allow_missing``) every group
    validation images.
    """
    splits = Counter(entry.split for entry in entries)
    lacking = [split for split in SPLITS if not splits[split]]
    for split in lacking:
        yield f"the dataset has no images in split {split!r}; found: {dict(splits)}{_way_out(lacking)}"
    labels = {e.label for e in entries if e.split == TRAIN}
    unseen = sorted({e.label for e in entries} - labels)
    if unseen and labels:
        yield (
            f"label {unseen[0]!r} occurs only outside the training split; training has: {enumerated(sorted(labels))}; give it "
            "training images, or take it out of the other splits"
        )
    if len(labels) == 1:
        yield f"the training split has the single label {next(iter(labels))!r}; a classifier needs two or more"
    if config.attribute == "discover":
        return
    if len({e.attribute for e in entries}) < 2:
        yield (
            "every image has the same attribute; there is no group to be fair to. If the attribute is not known, "
            "let it be discovered: --data.attribute discover"
        )
    unjudged = _unjudged(entries)
    if unjudged and splits[VALIDATION] and not config.allow_missing:
        more = f" (nor {len(unjudged) - 1} more groups)" if unjudged[1:] else ""
        yield (
            f"group {unjudged[0]} has no validation images, so worst-group accuracy cannot be judged on it{more}; add some, or "
            "go on without: --data.allow_missing true"
        )


def _way_out(lacking: Sequence[str]) -> str:
    """How splits that are not there are taken from others."""
    if TRAIN in lacking:
        return ""
    sources = {
        VALIDATION: TEST if TEST not in lacking else TRAIN,
        TEST: VALIDATION if VALIDATION not in lacking else TRAIN,
    }
    asked = ", ".join(f"{split}: {sources[split]}" for split in lacking)
    return f"; let it be taken from another, seeded: --data.split_from '{{{asked}}}'"


def _by_split(entries: Sequence[Entry]) -> dict[str, set[Group]]:
    present: dict[str, set[Group]] = {split: set() for split in SPLITS}
    for entry in entries:
        present[entry.split].add(Group(entry.label, entry.attribute))
    return present


def _unjudged(entries: Sequence[Entry]) -> list[Group]:
    present = _by_split(entries)
    return sorted((present[TRAIN] | present[TEST]) - present[VALIDATION])


def _remarks(entries: Sequence[Entry]) -> list[str]:
    present = _by_split(entries)
    labels, attributes = {e.label for e in entries}, {e.attribute for e in entries}
    every = {Group(label, attribute) for label in labels for attribute in attributes}
    remarks = [f"group {g} has no validation images: settings are chosen without it" for g in _unjudged(entries)]
    remarks += [
        f"group {g} has no training images: nothing to learn it from, it is not synthesised"
        for g in sorted(every - present[TRAIN])
    ]
    remarks += [
        f"group {g} has no test images: its accuracy is undefined (n = 0)" for g in sorted(every - present[TEST])
    ]
    return remarks


def check_k(config: RunConfig, counts: Counter[Group]) -> None:
    """Raise DataError if a fixed k is larger than a group to cluster."""
    k = config.cluster.k
    if k == "auto" or config.finetune.generator != "clustered-dreambooth":
        return
    for group, n in sorted(counts.items()):
        if config.cluster.min_group <= n < k:
            raise DataError(
                f"cluster.k is {k}, but group {group} has only {n} training images; set --cluster.k to {n} or less, or to auto"
            )


@dataclass(frozen=True)
class Decided:
    """The decision on every image: used, quarantined or excluded."""

    manifest: Manifest
    quarantined: list[SetAside]
    excluded: list[SetAside]
    counts: Counts
    remarks: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """Number of images by reason."""
        return {
            "quarantined": dict(Counter(image.reason for image in self.quarantined)),
            "excluded": dict(Counter(image.reason for image in self.excluded)),
        }


def decide_manifest(
    config: DataConfig, metadata: Metadata, checked: pa.Table, not_named: Sequence[str] = ()
) -> Decided:
    """Decide what is used: bad, contradictory and leaked images are set aside, duplicates marked.

    ``checked`` and ``not_named`` are as ``content.examine`` takes them.
    Raises DataError if more is lost than the limits allow, or a whole group.
    """
    examined = examine(metadata, checked, not_named)
    for check in content.LIMITS:
        check(config, metadata, examined)
    manifest = _manifest(examined, dict(zip(*(checked.column(n).to_pylist() for n in ("path", "format")), strict=True)))
    conflicts = [SetAside(path, "conflicting_groups", detail) for path, detail in examined.conflicts.items()]
    quarantined = [*metadata.quarantined, *examined.bad, *conflicts]
    excluded = [*metadata.excluded, *(SetAside(path, "leak", detail) for path, detail in examined.leaks.items())]
    counts = Counts(metadata.total, len(manifest), len(quarantined), len(excluded))
    return Decided(manifest, quarantined, excluded, counts, remarks(metadata, examined, checked))


def set_aside_table(set_aside: Sequence[SetAside]) -> pa.Table:
    """Rows (path, stage, reason, detail) of what ingest set aside."""
    return pa.Table.from_pylist([image._asdict() | {"stage": "ingest"} for image in set_aside], schema=SET_ASIDE)


def _manifest(examined: Examined, formats: Mapping[str, str]) -> Manifest:
    used = examined.used()
    # Columns, not rows: of millions these would take gigabytes.
    known: dict[str, list[str]] = {name: [getattr(entry, name) for entry, _ in used] for name in Entry._fields}
    known |= {
        "image_id": [image_id(path) for path in known["path"]],
        "sha256": [sha for _, sha in used],
        "source": ["real"] * len(used),
        "duplicate_of": [examined.first_of.get(path, "") for path in known["path"]],
        "format": [formats[path] for path in known["path"]],
    }
    return Manifest(pa.table(known, pa.schema([*SCHEMA, *_EXTRA.items()]))).sorted()


def remarks(metadata: Metadata, examined: Examined, checked: pa.Table) -> list[str]:
    """Remarks for people on the images that are used."""
    lines = list(metadata.remarks)
    animated = sum((n or 1) > 1 for n in checked.column("frames").to_pylist())
    if animated:
        lines.append(f"{animated} files hold several frames: the first of each is used")
    wrong = len(wrong_extensions(checked))
    if wrong:
        lines.append(f"{wrong} files have the extension of another format: they are read by their content")
    if examined.hint:
        lines.append(examined.hint)
    if examined.first_of:
        lines.append(
            f"{len(examined.first_of)} images are exact copies inside their split: they count once for clustering and adapters"
        )
    return lines

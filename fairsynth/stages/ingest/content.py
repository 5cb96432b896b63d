"""The content of a dataset's files: read and decoded a unit at a time, then compared with one another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from fairsynth.config import DataConfig, ImageRules
from fairsynth.data.decode import inspect_image
from fairsynth.data.image_names import SUFFIXES
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import BadImage, Entry, Metadata, SetAside
from fairsynth.data.near_duplicates import HASH_BYTES, LOOK_BYTES, look, perceptual_hash
from fairsynth.data.rules.why_missing import why_missing
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError, FairsynthError
from fairsynth.groups import Group
from fairsynth.manifest import SPLITS, TRAIN, image_id

CHECKED = pa.schema(
    [
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("frames", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
LOOK = (pa.field("hash", pa.binary(HASH_BYTES)), pa.field("thumbnail", pa.binary(LOOK_BYTES)))
Row = Mapping[str, Any]


class CheckImages:
    """Reads and decodes the images of one unit: rows (path, location) in, a table of ``CHECKED`` out.

    With ``look`` also hash and look, by which near duplicates are found (``fairsynth.data.near_duplicates``).
    """

    def __init__(self, storage: Storage, rules: ImageRules, look: bool = False) -> None:
        self.reader, self.rules, self.look = ImageReader(storage, rules.max_bytes), rules, look

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        schema = pa.schema([*CHECKED, *LOOK]) if self.look else CHECKED
        return {"checked": pa.Table.from_pylist([self._check(row) for row in task["rows"]], schema=schema)}

    def _check(self, row: Row) -> dict[str, Any]:
        facts: dict[str, Any] = {"path": row["path"], "reason": "", "detail": "", "sha256": ""}
        try:
            file = self.reader.read(row["path"], row["location"])
            facts["sha256"] = file.sha256
            image, header = inspect_image(file.content, self.rules)
        except BadImage as problem:
            return facts | {"reason": problem.reason, "detail": problem.detail}
        if self.look:
            facts |= {"hash": perceptual_hash(image), "thumbnail": look(image)}
        return facts | {
            "format": header.format,
            "width": header.width,
            "height": header.height,
            "frames": header.frames,
        }


@dataclass(frozen=True)
class Examined:
    """Result of reading the files. ``entries`` and their ``sha256`` (empty where unusable) are ordered by path.

    ``conflicts`` and ``leaks``: for a path, what contradicts it. ``first_of``: for each later copy inside a split, the
    image_id of the first.
    """

    entries: list[Entry]
    sha256: list[str]
    bad: list[SetAside]
    conflicts: dict[str, str]
    leaks: dict[str, str]
    first_of: dict[str, str]
    hint: str = ""
    """What explains most of the missing files, if one rule does."""

    def used(self) -> list[tuple[Entry, str]]:
        """The entries that remain, with their SHA-256."""
        away = self.conflicts.keys() | self.leaks.keys() | {image.path for image in self.bad}
        return [pair for pair in zip(self.entries, self.sha256, strict=True) if pair[0].path not in away]


def examine(metadata: Metadata, checked: pa.Table, not_named: Sequence[str] = ()) -> Examined:
    """Compare the content of all images.

    ``checked``: a row of ``CHECKED`` for each entry, ordered by path. ``not_named``: image files that the metadata does
    not name.
    """
    entries = sorted(metadata.entries, key=lambda e: e.path)
    columns = {name: checked.column(name).to_pylist() for name in ("path", "sha256", "reason", "detail")}
    if columns["path"] != [entry.path for entry in entries]:
        raise FairsynthError("the checked files are not those of the metadata")
    bad = [
        SetAside(path, reason, detail)
        for path, reason, detail in zip(columns["path"], columns["reason"], columns["detail"], strict=True)
        if reason
    ]
    sums = [sha if not reason else "" for sha, reason in zip(columns["sha256"], columns["reason"], strict=True)]
    same: dict[str, list[Entry]] = defaultdict(list)
    often = {sha for sha, n in Counter(sums).items() if n > 1 and sha}
    for entry, sha in zip(entries, sums, strict=True):
        if sha in often:
            same[sha].append(entry)
    conflicts = conflicting(same)
    agreeing = {sha: holders for sha, holders in same.items() if holders[0].path not in conflicts}
    leaks = leaking(agreeing)
    hint = why_missing([image.path for image in bad if image.reason == "missing_file"], not_named)
    return Examined(entries, sums, bad, conflicts, leaks, _first_of(agreeing, leaks), hint)


def conflicting(repeated: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """Paths of images whose content occurs under two labels or attributes, each with a path that contradicts it."""
    conflicts: dict[str, str] = {}
    for entries in repeated.values():
        if len({(e.label, e.attribute) for e in entries}) > 1:
            for entry in entries:
                other = next(e for e in entries if (e.label, e.attribute) != (entry.label, entry.attribute))
                conflicts[entry.path] = f"same content as {other.path} of {Group(other.label, other.attribute)}"
    return conflicts


def leaking(repeated: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """Paths that must go because a later split has the same content: from train for val, from both for test."""
    leaks: dict[str, str] = {}
    for entries in repeated.values():
        last = max(SPLITS.index(entry.split) for entry in entries)
        holder = next(e for e in entries if SPLITS.index(e.split) == last)
        for entry in entries:
            if SPLITS.index(entry.split) < last:
                leaks[entry.path] = f"same content as {holder.path} in {holder.split}"
    return leaks


def _first_of(repeated: Mapping[str, Sequence[Entry]], leaks: Mapping[str, str]) -> dict[str, str]:
    firsts: dict[str, str] = {}
    for entries in repeated.values():
        left = [e for e in entries if e.path not in leaks]
        firsts |= {e.path: image_id(left[0].path) for e in left[1:]}
    return firsts


def check_losses(config: DataConfig, metadata: Metadata, examined: Examined) -> None:
    """Raise DataError if more images cannot be used than the limits allow, overall or in a group."""
    bad, total = [*metadata.quarantined, *examined.bad], len(metadata.entries) + len(metadata.quarantined)
    reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(image.reason for image in bad).most_common())
    if len(bad) > config.max_bad_fraction * total:
        why = f", {bad[0].detail}" if bad[0].detail else ""
        raise DataError(
            f"{len(bad)} of {total} images cannot be used ({reasons}), more than data.max_bad_fraction "
            f"{config.max_bad_fraction:g} allows; first: {bad[0].path!r}{why}{_way_out(config, examined)}. 'fairsynth inspect' "
            "lists them all; mend them, or raise the limit"
        )
    lost = {image.path for image in bad}
    sizes = Counter(Group(e.label, e.attribute) for e in examined.entries)
    lost_of = Counter(Group(e.label, e.attribute) for e in examined.entries if e.path in lost)
    for group, n in sorted(lost_of.items()):
        if n > config.max_bad_group_fraction * sizes[group]:
            raise DataError(
                f"{n} of {sizes[group]} images of group {group} cannot be used, more than data.max_bad_group_fraction "
                f"{config.max_bad_group_fraction:g} allows ({reasons} in the whole dataset){_way_out(config, examined)}. 'fairsynth inspect' "
                "lists them all; mend them, or raise the limit"
            )


def _way_out(config: DataConfig, examined: Examined) -> str:
    """What explains missing files, or how one works with a part of a dataset."""
    if examined.hint:
        return f"; {examined.hint}"
    missing = any(image.reason == "missing_file" for image in examined.bad) and config.missing_files == "quarantine"
    return "; if only a part was fetched: --data.missing_files leave_out" if missing else ""


def check_conflicts(config: DataConfig, metadata: Metadata, examined: Examined) -> None:
    """Raise DataError if too many images occur under different labels or attributes."""
    total = len(metadata.entries) + len(metadata.quarantined)
    if len(examined.conflicts) > config.max_conflict_fraction * total:
        path, detail = next(iter(examined.conflicts.items()))
        raise DataError(
            f"{len(examined.conflicts)} of {total} images occur under different labels or attributes, more than "
            f"data.max_conflict_fraction {config.max_conflict_fraction:g} allows; first: {path!r}, {detail}. 'fairsynth "
            "inspect' lists them all; give each image one label and attribute, or raise the limit to have them set aside"
        )


def check_leaks(config: DataConfig, metadata: Metadata, examined: Examined) -> None:
    """Raise DataError if too many training images are in another split too."""
    train = {e.path for e in examined.entries if e.split == TRAIN}
    leaking_paths = [path for path in examined.leaks if path in train]
    if len(leaking_paths) > config.max_leak_fraction * len(train):
        raise DataError(
            f"{len(leaking_paths)} of {len(train)} training images are in another split too, more than data.max_leak_fraction "
            f"{config.max_leak_fraction:g} allows; first: {leaking_paths[0]!r}, {examined.leaks[leaking_paths[0]]}; up to that share "
            "they are left out of training: --data.max_leak_fraction 0.1"
        )


def check_groups_left(config: DataConfig, metadata: Metadata, examined: Examined) -> None:
    """Raise DataError if a group has no usable image left in a split."""
    lost = sorted({e[1:4] for e in examined.entries} - {entry[1:4] for entry, _ in examined.used()})
    if lost:
        split, label, attribute = lost[0]
        raise DataError(
            f"no usable image is left of split {split}, group {Group(label, attribute)}; 'fairsynth inspect' says why they "
            "cannot be used: mend them, or take the group out of the metadata"
        )


# Checks that stop a run before anything is spent.
LIMITS = (check_losses, check_conflicts, check_leaks, check_groups_left)


def wrong_extensions(checked: pa.Table) -> list[str]:
    """Paths of usable images whose extension says another format than their content."""
    pairs = zip(checked.column("path").to_pylist(), checked.column("format").to_pylist(), strict=True)
    return [
        p
        for p, format in pairs
        if format and (suffix := PurePosixPath(p).suffix.lower()) and suffix not in SUFFIXES[format]
    ]

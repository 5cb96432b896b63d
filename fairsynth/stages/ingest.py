"""Stage 1, ingest: from a dataset on disk to a checked manifest; nothing is dropped without a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairsynth.artifacts import Counts
from fairsynth.config import DataConfig
from fairsynth.data import folder, waterbirds
from fairsynth.data.decode import BadImage, decode, read_file
from fairsynth.data.table import Entry
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS, TRAIN, Manifest, image_id

VERSION = 1
QUARANTINE = pa.schema(
    [("path", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


@dataclass(frozen=True)
class Ingested:
    """The manifest, what was set aside and why, and the count of both."""

    manifest: Manifest
    quarantine: pa.Table
    counts: Counts


def read_entries(config: DataConfig) -> list[Entry]:
    """Read the metadata in the configured layout; equal rows are merged.

    Raises DataError for everything that makes the metadata unusable, before any image is opened.
    """
    entries = waterbirds.read(config) if config.format == "waterbirds" else folder.read(config)
    seen: dict[str, Entry] = {}
    for entry in entries:
        if seen.setdefault(entry.path, entry) != entry:
            raise DataError(f"metadata.csv gives {entry.path!r} twice with different label, attribute or split")
    check_groups(entries)
    return entries


def check_groups(entries: Sequence[Entry]) -> None:
    """Raise DataError unless every split has images, every label and attribute is known, and labels can be learnt."""
    splits = Counter(entry.split for entry in entries)
    for split in SPLITS:
        if not splits[split]:
            raise DataError(f"the dataset has no images in split {split!r}; found: {dict(splits)}")
    for what, values in (
        ("label", Counter(e.label for e in entries)),
        ("attribute", Counter(e.attribute for e in entries)),
    ):
        if "" in values:
            raise DataError(f"{values['']} rows have an empty {what}; fill it in or remove the rows")
    labels = {e.label for e in entries if e.split == TRAIN}
    unseen = sorted({e.label for e in entries} - labels)
    if unseen:
        raise DataError(
            f"label {unseen[0]!r} occurs only outside the training split; training has: {', '.join(sorted(labels))}"
        )
    if len(labels) < 2:
        raise DataError(f"the training split has the single label {labels.pop()!r}; a classifier needs two or more")
    if len({e.attribute for e in entries}) < 2:
        raise DataError("every image has the same attribute; there is no group to be fair to")


def ingest(config: DataConfig, root: Path, threads: int = 8) -> Ingested:
    """Read metadata, then read and decode every file once.

    Raises DataError if more than ``max_bad_fraction`` of the images cannot be used, or a whole group.
    """
    entries = read_entries(config)
    unique = sorted({entry.path: entry for entry in entries}.values(), key=lambda e: e.path)
    with ThreadPoolExecutor(threads) as pool:
        checked = list(pool.map(lambda entry: _check(root, entry), unique))
    good, bad = [row for row in checked if "sha256" in row], [row for row in checked if "reason" in row]
    manifest = Manifest.from_rows(good).sorted()
    _check_losses(config, manifest, unique, bad)
    counts = Counts(input=len(entries), used=len(good), quarantined=len(bad), excluded=len(entries) - len(unique))
    return Ingested(manifest, pa.Table.from_pylist(bad, schema=QUARANTINE), counts)


def _check(root: Path, entry: Entry) -> dict[str, Any]:
    """The manifest row of a usable image, or its quarantine row."""
    path = root / entry.path
    try:
        if not _inside(path, root):
            raise BadImage("outside_root")
        file = read_file(path)
        decode(file.content)
    except BadImage as problem:
        return {"path": entry.path, "stage": "ingest", "reason": problem.reason, "detail": problem.detail}
    return {
        "image_id": image_id(entry.path),
        "sha256": file.sha256,
        "path": entry.path,
        "split": entry.split,
        "label": entry.label,
        "attribute": entry.attribute,
        "source": "real",
    }


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        raise BadImage("unreadable", "a loop of links") from None


def _check_losses(
    config: DataConfig, manifest: Manifest, entries: Sequence[Entry], bad: Sequence[dict[str, Any]]
) -> None:
    if len(bad) > config.max_bad_fraction * len(entries):
        reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(row["reason"] for row in bad).most_common())
        raise DataError(
            f"{len(bad)} of {len(entries)} images cannot be used ({reasons}), more than data.max_bad_fraction "
            f"{config.max_bad_fraction:g} allows; first: {bad[0]['path']!r}"
        )
    before = {(e.split, e.label, e.attribute) for e in entries}
    after = set(zip(manifest.column("split"), manifest.column("label"), manifest.column("attribute"), strict=True))
    lost = sorted(before - after)
    if lost:
        raise DataError(f"no usable image is left of split {lost[0][0]}, group ({lost[0][1]}, {lost[0][2]})")

"""Looks at a dataset's metadata; large tables are counted without reading each row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from fairsynth.commands.plan.counts import Counted, of_demo, of_kinds
from fairsynth.commands.plan.kinds import FORMATS, kinds_of_rows
from fairsynth.config import RunConfig
from fairsynth.data.dataset import levelled
from fairsynth.data.metadata import Entry, Metadata
from fairsynth.data.recognise import check_options, recognise
from fairsynth.data.rules.rows import without_unknown
from fairsynth.data.rules.splits import with_splits
from fairsynth.data.rules.values import with_spellings_compared
from fairsynth.data.storage import Storage
from fairsynth.errors import FairsynthError
from fairsynth.manifest import TRAIN
from fairsynth.preflight import check_early, check_place, check_routes, check_words, values_of, worded
from fairsynth.stages.ingest.decide import check_groups, check_k

_STREAMED = (
    "the metadata is large and was counted by its columns: that file names are safe, and none is there twice, is checked "
    "when the run begins"
)


def look_at(config: RunConfig, root: Path) -> tuple[Counted, Metadata | None]:
    """The dataset's counts; and its metadata, of a large table only an entry for each kind of row.

    Raises what ``preflight.check_early`` raises: what a run would be refused for.
    """
    if config.data.format == "demo":
        return of_metadata(config, check_early(config, root)), None
    quick = _quick(config, root)
    if quick:
        return quick
    metadata = check_early(config, root)
    return of_metadata(config, metadata), metadata


def of_metadata(config: RunConfig, metadata: Metadata | None) -> Counted:
    """Counts of metadata that was read and checked; None: the built-in dataset, before it is written."""
    if metadata is None:
        return of_demo(config)
    _, kept = levelled(config.data, metadata)
    return of_kinds(Counter(entry[1:4] for entry in kept.entries), kept.total)


def _quick(config: RunConfig, root: Path) -> tuple[Counted, Metadata] | None:
    """The counts of large and plain tables; None for all others, and where a rule has anything to say of them."""
    data = config.data
    storage = Storage(data.root, data.follow_links)
    check_place(storage, root)
    name = recognise(storage) if data.format == "auto" else data.format
    check_options(data, name)
    # These rules look at single files.
    if name not in FORMATS or data.severity is not None or data.missing_files == "leave_out":
        return None
    try:
        rows = kinds_of_rows(name, storage, data)
    except FairsynthError:
        return None  # the reader of every row says what is wrong
    return _checked(config, *rows) if rows else None


def _checked(
    config: RunConfig, weights: Counter[Entry], words: dict[str, dict[str, str]]
) -> tuple[Counted, Metadata] | None:
    """Apply the rules of rows to one entry of each kind; None if one of them changes or remarks anything."""
    kinds = [entry._replace(path=f"{i}") for i, entry in enumerate(weights)]
    if any(not entry.split for entry in kinds):
        return None  # a split that is made goes by the files' names
    metadata = without_unknown(config.data, Metadata(kinds, words=words))
    metadata = with_spellings_compared(with_splits(config.data, metadata, None))
    if metadata.problems or metadata.quarantined or metadata.excluded or len(metadata.entries) != len(kinds):
        return None
    number = dict(zip((f"{i}" for i in range(len(kinds))), weights.values(), strict=True))
    counts = Counter[tuple[str, str, str]]()
    for entry in metadata.entries:
        counts[entry.split, entry.label, entry.attribute] += number[entry.path]
    result = replace(of_kinds(counts, weights.total()), notes=(_STREAMED,), by_columns=True)
    try:
        check_groups(metadata.entries, config.data)
        check_words(worded(config, metadata), *values_of(metadata))
        if config.data.attribute == "column":
            check_k(config, result.splits[TRAIN])
            check_routes(config, *values_of(metadata))
    except FairsynthError:
        return None
    return result, metadata

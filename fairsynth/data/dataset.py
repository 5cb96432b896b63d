"""From a dataset's folder to its checked metadata: the reader, the split, unknown values, severity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fairsynth.config import DataConfig
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import Fields, Metadata, SetAside
from fairsynth.data.recognise import check_options, reader, recognise
from fairsynth.data.rules.missing import left_out, respelled
from fairsynth.data.rules.rows import without_repeats, without_unknown
from fairsynth.data.rules.splits import with_splits
from fairsynth.data.rules.values import with_spellings_compared
from fairsynth.data.severity import Level, at_severity
from fairsynth.data.storage import Storage
from fairsynth.data.tables.guess import split_columns
from fairsynth.errors import DataError
from fairsynth.escaping import printable


class Dataset:
    """The real images where they lie. ``metadata``: if it was read already; else it is read when needed."""

    def __init__(
        self, config: DataConfig, metadata: Metadata | None = None, made_by: Callable[[], Path] | None = None
    ) -> None:
        self.config, self._metadata, self.made_by = config, metadata, made_by

    @cached_property
    def storage(self) -> Storage:
        """The dataset's folder."""
        return Storage(self.config.root, self.config.follow_links, self.made_by)

    @cached_property
    def images(self) -> ImageReader:
        """Reads the images."""
        return ImageReader(self.storage, self.config.images.max_bytes)

    @cached_property
    def metadata(self) -> Metadata:
        """The metadata as the dataset has it."""
        return self._metadata or load(self.config, self.storage)

    @cached_property
    def layout(self) -> str:
        """The dataset's format; if the config does not say it, that of its folder. Raises DataError as recognise does."""
        return recognise(self.storage) if self.config.format == "auto" else self.config.format

    @cached_property
    def levelled(self) -> tuple[Level | None, Metadata]:
        """The metadata at the config's severity, and the level that was decided."""
        return levelled(self.config, self.metadata)


def levelled(config: DataConfig, metadata: Metadata) -> tuple[Level | None, Metadata]:
    """A dataset's metadata at ``data.severity``; images that it removes are excluded with that reason.

    Raises DataError as at_severity does.
    """
    if config.severity is None:
        return None, metadata
    level = at_severity(
        metadata.entries, config.severity, config.severity_seed, config.aligned, config.severity_validation
    )
    gone = [SetAside(entry.path, "severity") for entry in level.removed]
    return level, replace(metadata, entries=level.kept, excluded=[*metadata.excluded, *gone])


def load(config: DataConfig, storage: Storage) -> Metadata:
    """Read and check a dataset's metadata; no image is opened.

    ``entries`` all have a split, a label and (unless it is to be discovered) an attribute, and no path twice.
    Raises DataError or ConfigError for unusable metadata.
    """
    metadata = survey(config, storage)
    if metadata.problems:
        first, *others = metadata.problems
        n = f"{len(others)} more problem{'s' if others[1:] else ''}"
        rest = f"; and {n}: 'fairsynth inspect' lists them all" if others else ""
        raise DataError(first + rest)
    return metadata


def survey(config: DataConfig, storage: Storage) -> Metadata:
    """The same, but what a run refuses the dataset for is listed in ``problems``, and its rows are set aside.

    Raises DataError or ConfigError only where there is nothing to go on with.
    """
    name = recognise(storage) if config.format == "auto" else config.format
    check_options(config, name)
    metadata = respelled(storage, reader(name).read(storage, config))
    if config.missing_files == "leave_out":
        metadata = left_out(storage, metadata)
    metadata = without_unknown(config, without_repeats(config, metadata))
    metadata = with_spellings_compared(
        with_splits(
            config,
            metadata,
            getattr(reader(name), "SPLIT_FRACTIONS", None),
            unused_splits(config, storage, name, metadata),
        )
    )
    hints = [*_not_followed(storage), *_passed_over(storage)]
    if not metadata.entries and not metadata.problems:
        away = Counter(image.reason for image in (*metadata.quarantined, *metadata.excluded))
        why = [f"{reason} {n}" for reason, n in away.most_common()]
        raise DataError("; ".join([f"{storage.root}: no usable images were found (format {name})", *why, *hints]))
    return replace(metadata, remarks=[*metadata.remarks, *hints])


def unused_splits(config: DataConfig, storage: Storage, name: str, metadata: Metadata) -> dict[str, list[str]]:
    """Columns that look like splits, with their words, where no image has a split and none was asked to be made anew."""
    if not config.split_column or any(entry.split for entry in metadata.entries):
        return {}
    return _split_columns(config, storage, name)


def splits_beside(config: DataConfig, storage: Storage) -> dict[str, list[str]]:
    """The same, of a dataset whose format is known."""
    name = config.format
    metadata = reader(name).read(storage, config) if hasattr(reader(name), "tables_of") else Metadata([])
    return unused_splits(config, storage, name, metadata)


def _split_columns(config: DataConfig, storage: Storage, name: str) -> dict[str, list[str]]:
    tables_of = getattr(reader(name), "tables_of", None)
    if tables_of is None:
        return {}
    used = (*Fields.of(config, "label", "attribute").needed, config.options.get("file_column", ""))
    return split_columns(storage, tables_of(storage, config), used, config.split_names)


def _passed_over(storage: Storage) -> list[str]:
    return [f"{n} files in {printable(name)} folders are left out" for name, n in sorted(storage.hidden.items())]


def _not_followed(storage: Storage) -> list[str]:
    links = storage.not_followed
    where = f"{len(links)} links to folders outside the dataset are not followed (data.follow_links), first: "
    return [where + repr(links[0])] if links else []

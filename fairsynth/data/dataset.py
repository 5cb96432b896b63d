"""From a dataset's folder to its checked metadata: the reader, the split, unknown values, severity."""

from __future__ import annotations

import importlib
from collections import Counter
from functools import cached_property
from types import ModuleType

from pydantic import BaseModel, ValidationError

from fairsynth.config import DataConfig, formats
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.data.severity import Level, at_severity
from fairsynth.data.splits import assign_splits
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable

UNKNOWN = "unknown"


class Dataset:
    """The real images where they lie. ``metadata``: if it was read already; else it is read when needed."""

    def __init__(self, config: DataConfig, metadata: Metadata | None = None) -> None:
        self.config, self._metadata = config, metadata

    @cached_property
    def storage(self) -> Storage:
        """The dataset's folder."""
        return Storage(self.config.root, self.config.follow_links)

    @cached_property
    def images(self) -> ImageReader:
        """Reads the images."""
        return ImageReader(self.storage)

    @cached_property
    def metadata(self) -> Metadata:
        """The metadata as the dataset has it."""
        return self._metadata or load(self.config, self.storage)

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
    return level, Metadata(level.kept, metadata.quarantined, [*metadata.excluded, *gone], metadata.remarks)


def reader(name: str) -> ModuleType:
    """The module that reads a format."""
    return importlib.import_module(f"fairsynth.data.readers.{name}")


def recognise(storage: Storage) -> str:
    """The format of a dataset's folder. Raises DataError unless exactly one reader recognises it."""
    names = [name for name in formats() if reader(name).recognises(storage)]
    if len(names) == 1:
        return names[0]
    what = f"could be {' or '.join(names)}" if names else "is not recognised"
    inside = ", ".join(printable(name) for name in storage.names()[:5]) or "nothing"
    raise DataError(
        f"the layout of {storage.root} {what} (it holds: {inside}); say which with --data.format: {', '.join(formats())}"
    )


def check_options(config: DataConfig, name: str) -> None:
    """Raise ConfigError for an option that the format does not know."""
    options: type[BaseModel] | None = getattr(reader(name), "Options", None)
    allowed = sorted(options.model_fields) if options else []
    unknown = [key for key in config.options if key not in allowed]
    if unknown:
        known = f"it has: {', '.join(allowed)}" if allowed else "it has none"
        raise ConfigError(f"the format {name} has no option {unknown[0]!r} (data.options); {known}")
    if options:
        try:
            options.model_validate(config.options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"data.options.{where}: {first['msg']} (given: {first['input']!r})") from None


def load(config: DataConfig, storage: Storage) -> Metadata:
    """Read and check a dataset's metadata; no image is opened.

    ``entries`` all have a split, a label and (unless it is to be discovered) an attribute, and no path twice.
    Raises DataError or ConfigError for unusable metadata.
    """
    name = recognise(storage) if config.format == "auto" else config.format
    check_options(config, name)
    metadata = reader(name).read(storage, config)
    metadata = _known(config, _unique(metadata))
    hints = _not_followed(storage)
    if not metadata.entries:
        raise DataError("; ".join([f"{storage.root}: no usable images were found (format {name})", *hints]))
    remarks = [*metadata.remarks, *hints]
    return _with_splits(config, Metadata(metadata.entries, metadata.quarantined, metadata.excluded, remarks), name)


def _not_followed(storage: Storage) -> list[str]:
    links = storage.not_followed
    where = f"{len(links)} links to folders outside the dataset are not followed (data.follow_links), first: "
    return [where + repr(links[0])] if links else []


def _unique(metadata: Metadata) -> Metadata:
    """Merge equal rows. Raises DataError if one file has two different rows."""
    entries: dict[str, Entry] = {}
    repeated: list[SetAside] = []
    for entry in metadata.entries:
        first = entries.setdefault(entry.path, entry)
        if first is not entry:
            if first != entry:
                raise DataError(
                    f"the metadata gives {entry.path!r} twice with different label, attribute or split; keep one of the rows"
                )
            repeated.append(SetAside(entry.path, "equal_row"))
    return Metadata(list(entries.values()), metadata.quarantined, [*metadata.excluded, *repeated], metadata.remarks)


def _known(config: DataConfig, metadata: Metadata) -> Metadata:
    """Apply ``data.unknown`` to rows whose label or attribute is empty."""
    checked = (("label", 2), ("attribute", 3)) if config.attribute == "column" else (("label", 2),)
    for what, index in checked:
        values = Counter(str(entry[index]) for entry in metadata.entries)
        empty = sum(n for value, n in values.items() if not value.strip())
        if empty and (config.unknown == "refuse" or (config.unknown == "own_group" and what == "label")):
            raise DataError(_unknown_message(what, empty, values, config))
        if UNKNOWN in values and empty and config.unknown == "own_group":
            raise DataError(
                f"{empty} rows have no {what}, and {UNKNOWN!r} is already a value of it; use data.unknown drop"
            )
    kept, dropped = [], list(metadata.excluded)
    for entry in metadata.entries:
        lacking = next((what for what, index in checked if not str(entry[index]).strip()), None)
        if lacking == "attribute" and config.unknown == "own_group":
            kept.append(entry._replace(attribute=UNKNOWN))
        elif lacking:
            dropped.append(SetAside(entry.path, f"unknown_{lacking}"))
        else:
            kept.append(entry)
    return Metadata(kept, metadata.quarantined, dropped, metadata.remarks)


def _unknown_message(what: str, empty: int, values: Counter[str], config: DataConfig) -> str:
    counts = ", ".join(f"{printable(value)!r} {n}" for value, n in values.most_common(8) if value.strip())
    ways = "drop" if what == "label" else "drop or own_group"
    return (
        f"{empty} rows have an empty {what} (values: {counts or 'none'}); fill it in, or set --data.unknown to {ways}"
    )


def _with_splits(config: DataConfig, metadata: Metadata, name: str) -> Metadata:
    without = [entry for entry in metadata.entries if not entry.split]
    if not without:
        return metadata
    if len(without) < len(metadata.entries):
        raise DataError(f"{len(without)} images have no split, the others have one; first: {without[0].path!r}")
    fractions = config.split_fractions or getattr(reader(name), "SPLIT_FRACTIONS", None)
    if fractions is None:
        raise DataError(
            "the dataset has no split; add a column (train, val, test), or let a seeded split be made: "
            "--data.split_fractions '[0.7, 0.1, 0.2]'"
        )
    shares = ", ".join(f"{share:g}" for share in fractions)
    remark = f"the dataset has no split of its own: made with shares {shares} and data.split_seed {config.split_seed}"
    entries = assign_splits(metadata.entries, fractions, config.split_seed)
    return Metadata(entries, metadata.quarantined, metadata.excluded, [*metadata.remarks, remark])

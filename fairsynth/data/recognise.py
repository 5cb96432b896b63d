"""Which reader a dataset's folder needs, and whether its settings fit."""

from __future__ import annotations

import importlib
from types import ModuleType

from pydantic import BaseModel, ValidationError

from fairsynth.config import DataConfig, formats
from fairsynth.config.load import value_problems
from fairsynth.config.suggest import did_you_mean
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable


def reader(name: str) -> ModuleType:
    """The module that reads a format."""
    return importlib.import_module(f"fairsynth.data.readers.{name}")


def recognise(storage: Storage) -> str:
    """The format of a dataset's folder. Raises DataError unless exactly one reader recognises it."""
    names = [name for name in formats() if reader(name).recognises(storage)]
    # What has the marks of one layout, but a fault, is read as that: its reader tells the fault.
    names = names or [name for name in formats() if getattr(reader(name), "resembles", _never)(storage)][:1]
    if len(names) == 1:
        return names[0]
    what = f"could be {' or '.join(names)}" if names else "is not recognised"
    inside = ", ".join(printable(name) for name in storage.names()[:5]) or "nothing"
    hints = [hint for name in formats() if (hint := getattr(reader(name), "hint", _nothing)(storage))]
    which = f"say which with --data.format: {', '.join(formats())}"
    raise DataError("; ".join([f"the layout of {storage.root} {what} (it holds: {inside})", which, *hints]))


def _never(storage: Storage) -> bool:
    return False


def _nothing(storage: Storage) -> str:
    return ""


def check_options(config: DataConfig, name: str) -> None:
    """Raise ConfigError for an option that the format does not know, and for a column of the split where it has none."""
    if config.other_split_column and not getattr(reader(name), "HAS_SPLIT_COLUMN", False):
        raise ConfigError(f"the format {name} has no column of the split by another name (data.split_column)")
    options: type[BaseModel] | None = getattr(reader(name), "Options", None)
    allowed = sorted(options.model_fields) if options else []
    unknown = [key for key in config.options if key not in allowed]
    if unknown:
        known = f"it has: {', '.join(allowed)}" if allowed else "it has none"
        raise ConfigError(
            f"the format {name} has no option {unknown[0]!r} (data.options){did_you_mean(unknown[0], allowed)}; {known}"
        )
    if options:
        try:
            options.model_validate(config.options)
        except ValidationError as error:
            raise ConfigError(value_problems(error, "data.options")) from None

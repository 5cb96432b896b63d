"""Which columns of a table are meant, where nobody has said it: guessed by their values, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairsynth.config import DataConfig
from fairsynth.data.readers import folder
from fairsynth.data.storage import Storage
from fairsynth.data.tables import guess
from fairsynth.data.tables.columns import present
from fairsynth.data.tables.table import column_names
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated


def guessed_columns(config: DataConfig, storage: Storage) -> Mapping[str, Any]:
    """Settings for the columns of file names, label and attribute of an image folder's table, where it lacks the usual ones.

    Raises DataError if more columns could be the label and the attribute than are looked for, or fewer.
    """
    tables = folder.tables_of(storage, config) if config.format == "folder" else []
    if not tables or not all(map(storage.is_file, tables)):
        return {}  # the reader tells what is wrong
    header = column_names(storage, tables[0])
    names = config.options.get("file_column") or folder.file_column(header)
    changes: dict[str, Any] = {}
    if not names and (names := guess.file_column(storage, tables[0])):
        changes["data.options"] = {**config.options, "file_column": names}
    lacking = _lacking(config, header)
    if not lacking or not names:
        return changes
    used = {names, config.split_column, config.label_column, *config.attribute_column, *_usual(lacking)}
    rest = [column for column in header if column not in used]
    splits = guess.split_columns(storage, tables, [*used - {None}], config.split_names)
    rest = guess.label_columns(storage, tables[0], [column for column in rest if column not in splits])
    if len(rest) != len(lacking):
        asked = " and ".join(f"the {what}" for what in lacking)
        raise DataError(
            f"{storage.name(tables[0])} has no column {' and no column '.join(lacking)}; say which column is {asked}: "
            f"{' '.join(f'--data.{what}_column COLUMN' for what in lacking)}; it has: {enumerated(rest or header)}"
        )
    return changes | {f"data.{what}_column": column for what, column in zip(lacking, rest, strict=True)}


def told(changes: Mapping[str, Any]) -> list[str]:
    """What is said of the guesses."""
    named = [f"{key} {_column(value)!r}" for key, value in changes.items() if key.endswith(("_column", "options"))]
    return (
        [f"guessed from the table: {enumerated(named)}; look whether that is right, and correct it in the file"]
        if named
        else []
    )


def _column(value: Any) -> str:
    return str(value["file_column"] if isinstance(value, dict) else value)


def _lacking(config: DataConfig, header: Sequence[str]) -> list[str]:
    said = {
        "label": bool(config.label_column),
        "attribute": bool(config.attribute_column) or config.attribute != "column",
    }
    return [what for what in said if not said[what] and not present(header, (what,))]


def _usual(lacking: Sequence[str]) -> list[str]:
    return [what for what in ("label", "attribute") if what not in lacking]

"""An image folder with metadata.csv: file_name, split, and columns for label and attribute."""

from __future__ import annotations

from fairsynth.config import DataConfig
from fairsynth.data.table import Entry, dataset_root, read_metadata, safe_path
from fairsynth.errors import DataError
from fairsynth.manifest import TEST, TRAIN, VALIDATION

_SPLIT_NAMES = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}


def read(config: DataConfig) -> list[Entry]:
    """Entries in the file's order.

    Raises DataError for a missing file or column and for an unknown split.
    """
    folder = dataset_root(config.root)
    columns = ("file_name", config.label_column, config.attribute_column, "split")
    entries = []
    for number, row in enumerate(read_metadata(folder, columns), start=2):
        split = _SPLIT_NAMES.get(row["split"].strip().lower())
        if split is None:
            raise DataError(
                f"{folder}/metadata.csv, row {number}: split is {row['split']!r}; allowed: train, val, test"
            )
        entries.append(
            Entry(safe_path(folder, row["file_name"]), split, row[config.label_column], row[config.attribute_column])
        )
    return entries

"""The Waterbirds layout: metadata.csv with img_id, img_filename, y, split (0/1/2), place, place_filename."""

from __future__ import annotations

from fairsynth.config import DataConfig
from fairsynth.data.table import Entry, dataset_root, read_metadata, safe_path
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS

COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def read(config: DataConfig) -> list[Entry]:
    """Entries in the file's order; label and attribute are the codes as text.

    Raises DataError for a missing file or column and for a split that is not 0, 1 or 2.
    """
    folder = dataset_root(config.root)
    entries = []
    for number, row in enumerate(read_metadata(folder, COLUMNS), start=2):
        if row["split"] not in ("0", "1", "2"):
            raise DataError(
                f"{folder}/metadata.csv, row {number}: split is {row['split']!r}; allowed: 0 (train), 1 (validation), 2 (test)"
            )
        entries.append(Entry(safe_path(folder, row["img_filename"]), SPLITS[int(row["split"])], row["y"], row["place"]))
    return entries

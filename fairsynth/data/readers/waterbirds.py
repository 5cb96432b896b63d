"""The Waterbirds layout: metadata.csv with img_id, img_filename, y, split (0/1/2), place, place_filename."""

from __future__ import annotations

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Fields, Metadata
from fairsynth.data.storage import Storage
from fairsynth.data.table import column_names, read_table, safe_path
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS

TABLE = "metadata.csv"
# The original has img_id and place_filename, some copies leave them out; nothing here needs them.
COLUMNS = ("img_filename", "y", "split", "place")


def recognises(storage: Storage) -> bool:
    """True for a metadata.csv that names the bird's file and the place."""
    return {"img_filename", "place"} <= set(column_names(storage, TABLE))


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the file's order; label and attribute are the codes as text.

    Raises DataError for a missing file or column and for a split that is not 0, 1 or 2.
    """
    fields = Fields.of(config, "y", "place")
    entries = []
    for number, row in enumerate(read_table(storage, TABLE, (*COLUMNS, *fields.needed)), start=2):
        if row["split"] not in ("0", "1", "2"):
            raise DataError(
                f"{storage.name(TABLE)}, row {number}: split is {row['split']!r}; allowed: 0 (train), 1 (validation), 2 (test)"
            )
        path = safe_path(storage, row["img_filename"])
        entries.append(fields.entry(row, path, SPLITS[int(row["split"])]))
    return Metadata(entries)

"""The Waterbirds layout: metadata.csv with img_id, img_filename, y, split (0/1/2), place, place_filename."""

from __future__ import annotations

from fairsynth.config import DataConfig
from fairsynth.config.values import plain_value
from fairsynth.data.metadata import Fields, Found, Metadata
from fairsynth.data.rules.split_words import CODES
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import present
from fairsynth.data.tables.table import column_names, inside, read_table
from fairsynth.errors import DataError

TABLE = "metadata.csv"
# The original has img_id and place_filename, some copies leave them out; nothing here needs them.
COLUMNS = ("img_filename", "y", "split", "place")


def recognises(storage: Storage) -> bool:
    """True for a metadata.csv that names the bird's file and the place."""
    try:
        names = column_names(storage, TABLE) if storage.is_file(TABLE) else []
    except DataError:
        return False
    return present(names, ("img_filename", "place")) == ["img_filename", "place"]


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries in the file's order; label and attribute are the codes as text.

    Raises DataError for a missing file or column. Problems: a split that is not 0, 1 or 2, a file name that leaves
    the dataset.
    """
    fields, found, where = Fields.of(config, "y", "place"), Found(), storage.name(TABLE)
    for number, row in read_table(storage, TABLE, (*COLUMNS, *fields.needed), found):
        place, code = f"{where}, row {number}", plain_value(row["split"].strip())
        if code not in CODES and code not in config.split_names:
            problem = f"{place}: split is {row['split']!r}; allowed: 0 (train), 1 (validation), 2 (test)"
            found.refuse(row["img_filename"], "unknown_split", problem)
        elif path := inside(storage, row["img_filename"], TABLE, number, found):
            found.entries.append(fields.entry(row, path, code if code in config.split_names else CODES[code]))
    return found.metadata

"""Words for codes that a Parquet file itself gives: Hugging Face's ClassLabel, in the schema's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from fairsynth.data.metadata import Fields
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import value_of
from fairsynth.data.tables.parquet_file import parquet_file

# The code that Hugging Face writes where a label is not known.
UNLABELLED = "-1"
_KEY, _LONGEST = b"huggingface", 200


class Codes:
    """What a schema says of the codes in the columns of label and attribute."""

    def __init__(self, schema: pa.Schema | None, fields: Fields) -> None:
        self.fields = fields
        self.names = {column: names(schema, column) for column in fields.needed} if schema is not None else {}

    @classmethod
    def of_table(cls, storage: Storage, table: str, fields: Fields) -> Codes:
        """Of a metadata table; other kinds than Parquet say nothing. Raises DataError if it cannot be opened."""
        if not table.lower().endswith(".parquet"):
            return cls(None, fields)
        with parquet_file(storage, table) as file:
            return cls(file.schema_arrow, fields)

    @property
    def words(self) -> dict[str, dict[str, str]]:
        """For label and attribute, the words of their codes; of an attribute from several columns, of its parts."""
        if not any(self.names.values()):
            return {}
        parts = {column: self.names[column] for column in self.fields.attributes}
        several = len(parts) > 1
        attribute = {
            f"{c}={code}" if several else code: word for c, named in parts.items() for code, word in named.items()
        }
        words = {"label": self.names[self.fields.label], "attribute": attribute}
        return {what: named for what, named in words.items() if named}

    def known(self, row: Mapping[str, str]) -> Mapping[str, str]:
        """The row, with an empty value where its code says that nobody labelled it."""
        unlabelled = {column: "" for column, named in self.names.items() if named and row[column] == UNLABELLED}
        return {**row, **unlabelled} if unlabelled else row


def names(schema: pa.Schema, column: str) -> dict[str, str]:
    """Word by code of one column; empty if it is no ClassLabel, or if what the file says makes no sense."""
    try:
        features = json.loads((schema.metadata or {}).get(_KEY, b"{}"))["info"]["features"]
        feature = value_of(features, column)
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return {}
    found = feature.get("names")
    if not isinstance(found, list) or not all(isinstance(name, str) and 0 < len(name) <= _LONGEST for name in found):
        return {}
    return {str(code): name for code, name in enumerate(found)}

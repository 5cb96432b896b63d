"""Parquet files with the images inside: a column struct<bytes, path> (as Hugging Face writes it) or binary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.config import DataConfig, Section
from fairsynth.config.suggest import did_you_mean
from fairsynth.data.layout import is_table, shard_split, shards, split_folders
from fairsynth.data.location import parquet_location
from fairsynth.data.metadata import Fields, Found, Metadata, SetAside
from fairsynth.data.storage import Storage
from fairsynth.data.tables.class_labels import Codes
from fairsynth.data.tables.columns import places, present
from fairsynth.data.tables.parquet_file import (
    batches,
    check_plain,
    parquet_file,
    text_columns,
    unpacks_too_far,
    values_of,
)
from fairsynth.data.tables.table import as_text, inside
from fairsynth.errors import DataError

SUFFIX = ".parquet"
_BATCH = 1 << 16

HAS_SPLIT_COLUMN = True


class Options(Section):
    """Settings of this format (``data.options``)."""

    image_column: str = "image"
    """The column with the images."""


def recognises(storage: Storage) -> bool:
    """True for a .parquet file with an image column: at the root, in data/ or in a split's folder."""
    return any(_image_columns(storage, path) for path in _first_files(storage))


def resembles(storage: Storage) -> bool:
    """True for any .parquet file in one of these places, but a metadata table."""
    return any(not is_table(path.rpartition("/")[2]) for path in _first_files(storage))


def _first_files(storage: Storage) -> Iterator[str]:
    for folder in ("", "data/", *(f"{name}/" for name in split_folders(storage))):
        first = next((name for name in storage.names(folder) if name.lower().endswith(SUFFIX)), None)
        if first is not None:
            yield folder + first


def _image_columns(storage: Storage, path: str) -> list[str]:
    """Columns that hold images by their type: struct<bytes, ...>, or binary under the usual name."""
    try:
        with parquet_file(storage, path) as file:
            schema = file.schema_arrow
    except DataError:
        return []
    structs = [column.name for column in schema if pa.types.is_struct(column.type) and _is_image(column.type)]
    usual = Options().image_column
    return structs or [column.name for column in schema if column.name == usual and _is_image(column.type)]


def _is_image(arrow_type: pa.DataType) -> bool:
    if pa.types.is_struct(arrow_type):
        place = arrow_type.get_field_index("bytes")
        return place >= 0 and _is_binary(arrow_type.field(place).type)
    return _is_binary(arrow_type)


def _is_binary(arrow_type: pa.DataType) -> bool:
    return pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries by file and row; a row without an image is set aside (``empty``). No image is read into memory.

    The split is from its column, else from the file's name (train-00000-of-00001.parquet) or folder.
    Raises DataError: no Parquet file or an unreadable one, a missing column, an image column of
    another type, a label that is a list. Problems: a path that leaves the dataset.
    """
    options, found = Options.model_validate(config.options), Found()
    for path in shards(storage, (SUFFIX,)):
        with parquet_file(storage, path) as file:
            schema = file.schema_arrow
        _read(storage, config, path, schema, options.image_column, found)
    return found.metadata


def tables_of(storage: Storage, config: DataConfig) -> list[str]:
    """Paths of the files, whose columns can be looked at."""
    return shards(storage, (SUFFIX,))


def _read(storage: Storage, config: DataConfig, path: str, schema: pa.Schema, image: str, found: Found) -> None:
    """Add the images of one file."""
    fields, where = Fields.of(config, "label", "attribute"), storage.name(path)
    _check_image_column(storage, path, image, schema)
    asked = (config.split_column,) if config.other_split_column else ()
    wanted = (*fields.needed, *(asked or present(schema.names, (config.split_column,))))
    columns = {name: schema.names[place] for name, place in places(where, schema.names, wanted).items()}
    check_plain(where, schema, [*columns.values()])
    codes = Codes(schema, fields)
    found.name_values(codes.words, path)
    split_of_file = "" if len(wanted) > len(fields.needed) else shard_split(path, config.split_names)
    for number, (group, place, values, absent, beside) in enumerate(_rows(storage, path, schema, columns, image)):
        row = {name: as_text(value, f"{where}, row {number}: {name}") for name, value in values.items()}
        name, location = f"{path}/{number:08d}", parquet_location(path, group, place, image)
        if beside:
            name, location = inside(storage, beside, path, number, found), ""
        elif absent:
            found.quarantined.append(SetAside(name, "empty", "no image in the row"))
            continue
        if name:
            split = row[config.split_column] if len(wanted) > len(fields.needed) else split_of_file
            found.entries.append(fields.entry(codes.known(row), name, split, location))


def _rows(
    storage: Storage, path: str, schema: pa.Schema, columns: Mapping[str, str], image: str
) -> Iterator[tuple[int, int, dict[str, Any], bool, str | None]]:
    """Of each row: its row group, its place there, its values, whether it has no image, and then the path of one beside."""
    kind, where = schema.field(image).type, storage.name(path)
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    leaf = f"{image}.bytes" if pa.types.is_struct(kind) else image
    texts = text_columns(schema, [*columns.values()])
    with parquet_file(storage, path, [*texts, leaf, *((f"{image}.path",) if has_path else ())]) as file:
        for group in range(file.num_row_groups):
            missing = _absent(where, file, group, leaf)
            paths: Iterator[str | None] = repeat(None)
            if has_path and any(missing):
                paths = iter(_paths_beside(where, file, group, image))
            rows = file.metadata.row_group(group).num_rows
            place = 0
            for values in batches(where, file, [*columns.values()], [group], rows):
                for of_row in zip(*(values[column] for column in columns.values()), strict=True):
                    absent, beside = missing[place], next(paths, None)
                    yield group, place, dict(zip(columns, of_row, strict=True)), absent, beside if absent else None
                    place += 1
            if place < rows:
                raise DataError(f"{where} has {place} rows in a row group that says {rows}; get the file again")


def _paths_beside(where: str, file: pq.ParquetFile, group: int, image: str) -> list[Any]:
    found: list[Any] = []
    for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[f"{image}.path"], use_threads=False):
        found += values_of(f"{where}: {image}.path", pc.struct_field(batch.column(0), "path"))
    return found


def _check_image_column(storage: Storage, path: str, image: str, schema: pa.Schema) -> None:
    others = _image_columns(storage, path)
    if image not in schema.names:
        hint = f"; set --data.options '{{image_column: {others[0]}}}'" if others else ""
        guess = did_you_mean(image, schema.names)
        raise DataError(f"{storage.name(path)} has no column {image!r}{guess}{hint}; it has: {', '.join(schema.names)}")
    if not _is_image(schema.field(image).type):
        raise DataError(
            f"{storage.name(path)}: column {image!r} is {schema.field(image).type}; it must be struct<bytes, path> or binary; name the images' column: --data.options '{{image_column: NAME}}'"
        )


def _absent(where: str, file: pq.ParquetFile, group: int, leaf: str) -> list[bool]:
    """For each row of a row group, whether its image is missing; from the statistics where these suffice."""
    meta = file.metadata.row_group(group)
    place = next(column for column in range(meta.num_columns) if meta.column(column).path_in_schema == leaf)
    statistics = meta.column(place).statistics
    nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
    if nulls in (0, meta.num_rows):
        return [nulls != 0] * meta.num_rows
    if unpacks_too_far(file, group, place):
        raise DataError(
            f"{where}: the column {leaf} unpacks to many times its size, as no images do; get the file again"
        )
    flags: list[bool] = []
    # Only the bytes themselves can tell which rows have none; few at a time.
    for batch in file.iter_batches(1, row_groups=[group], columns=[leaf], use_threads=False):
        column = batch.column(0)
        flags += (pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column).is_null().to_pylist()
    return flags

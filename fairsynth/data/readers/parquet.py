"""Parquet files with the images inside: a column struct<bytes, path> (as Hugging Face writes it) or binary."""

from __future__ import annotations

from collections.abc import Iterator

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
from fairsynth.data.tables.table import UNREADABLE, as_text, inside, not_parquet
from fairsynth.errors import DataError

SUFFIX = ".parquet"
_BATCH = 16

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
        with storage.open(path) as handle:
            schema = pq.ParquetFile(handle).schema_arrow
    except (*UNREADABLE, DataError):
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
        try:
            with storage.open(path) as handle, pq.ParquetFile(handle) as file:
                _read(storage, config, path, file, options.image_column, found)
        except UNREADABLE as error:
            raise not_parquet(storage.name(path), error) from None
    return found.metadata


def tables_of(storage: Storage, config: DataConfig) -> list[str]:
    """Paths of the files, whose columns can be looked at."""
    return shards(storage, (SUFFIX,))


def _read(storage: Storage, config: DataConfig, path: str, file: pq.ParquetFile, image: str, found: Found) -> None:
    """Add the images of one file."""
    fields, where, schema = Fields.of(config, "label", "attribute"), storage.name(path), file.schema_arrow
    _check_image_column(storage, path, image, schema)
    asked = (config.split_column,) if config.other_split_column else ()
    wanted = (*fields.needed, *(asked or present(schema.names, (config.split_column,))))
    columns = {name: schema.names[place] for name, place in places(where, schema.names, wanted).items()}
    codes = Codes(schema, fields)
    found.name_values(codes.words, path)
    arrow_type = schema.field(image).type
    has_path = pa.types.is_struct(arrow_type) and arrow_type.get_field_index("path") >= 0
    leaf = f"{image}.bytes" if pa.types.is_struct(arrow_type) else image
    number = 0
    for group in range(file.num_row_groups):
        names = [*columns.values(), *((f"{image}.path",) if has_path else ())]
        rows = file.read_row_group(group, columns=names).to_pylist()
        absent = _absent(file, group, leaf)
        for place in range(file.metadata.row_group(group).num_rows):
            row = {name: as_text(rows[place][c], f"{where}, row {number}: {name}") for name, c in columns.items()}
            split = (
                row[config.split_column] if len(wanted) > len(fields.needed) else shard_split(path, config.split_names)
            )
            beside = (rows[place][image] or {}).get("path") if has_path and absent[place] else None
            name, location = f"{path}/{number:08d}", parquet_location(path, group, place, image)
            number += 1
            if beside:
                name, location = inside(storage, beside, path, number - 1, found), ""
            elif absent[place]:
                found.quarantined.append(SetAside(name, "empty", "no image in the row"))
                continue
            if name:
                found.entries.append(fields.entry(codes.known(row), name, split, location))


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


def _absent(file: pq.ParquetFile, group: int, leaf: str) -> list[bool]:
    """For each row of a row group, whether its image is missing; from the statistics where these suffice."""
    meta = file.metadata.row_group(group)
    chunk = next(column for column in map(meta.column, range(meta.num_columns)) if column.path_in_schema == leaf)
    nulls = chunk.statistics.null_count if chunk.statistics is not None and chunk.statistics.has_null_count else None
    if nulls in (0, meta.num_rows):
        return [nulls != 0] * meta.num_rows
    flags: list[bool] = []
    # Only the bytes themselves can tell which rows have none; few at a time.
    for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=[leaf]):
        column = batch.column(0)
        flags += (pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column).is_null().to_pylist()
    return flags

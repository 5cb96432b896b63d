"""What several dataset layouts share: metadata tables, split folders, shards, and files that nobody names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fairsynth.data.image_names import is_image_file
from fairsynth.data.location import container
from fairsynth.data.metadata import Metadata
from fairsynth.data.rules.split_words import meaning, split_in
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

NO_NAMES: Mapping[str, str] = MappingProxyType({})
TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


def is_table(name: str) -> bool:
    """True for the name of a metadata table, in any case."""
    return name.lower() in TABLES


def split_folders(storage: Storage, names: Mapping[str, str] = NO_NAMES) -> list[str]:
    """Folders at the root that are named like splits; ``names``: further words for splits (``data.split_names``)."""
    return [name for name in storage.names() if meaning(name, names) and storage.is_folder(name)]


def shards(storage: Storage, suffixes: tuple[str, ...]) -> list[str]:
    """Paths of all files with these suffixes. Raises DataError if none is found, and for a name that is not UTF-8."""
    files = [file for file in storage.files() if container(file.path, file.location).lower().endswith(suffixes)]
    if not files:
        raise DataError(
            f"{storage.root} holds no {suffixes[0]} file; give the folder that does, or another --data.format"
        )
    odd = next((file for file in files if file.location), None)
    if odd is not None:
        raise DataError(f"the name of {storage.name(odd.path)} is not UTF-8; rename the file")
    return [file.path for file in files]


def shard_split(path: str, names: Mapping[str, str] = NO_NAMES) -> str:
    """The word for the split of a shard or a table: in its name, else the nearest folder named like a split, else empty."""
    *folders, name = path.split("/")
    return split_in(name, names) or next((word for word in reversed(folders) if meaning(word, names)), "")


def ignored_files(paths: Sequence[str]) -> list[str]:
    """A remark on files that a reader passes over because of their names."""
    what = f"{len(paths)} files are no images by their names and were ignored"
    return [f"{what}: {enumerated(paths, most=3)}"] if paths else []


def not_named(storage: Storage, metadata: Metadata) -> list[str]:
    """Paths of image files below the root that the metadata does not name."""
    named = {container(entry.path, entry.location) for entry in metadata.entries}
    named |= {image.path for image in (*metadata.quarantined, *metadata.excluded)}
    files = [file for file in storage.files() if is_image_file(file)]
    if storage.local is not None:  # a file that is named by way of a link is listed by its own name
        root = os.path.realpath(storage.local)
        linked = named - {file.path for file in files}
        named |= {os.path.relpath(os.path.realpath(storage.full(path)), root) for path in linked if "\0" not in path}
    return [file.path for file in files if not {container(file.path, file.location), file.path} & named]

"""What several dataset layouts share: metadata tables, split folders, shards, and files that nobody names."""

from __future__ import annotations

from fairsynth.data.image_names import is_image_file
from fairsynth.data.location import container
from fairsynth.data.metadata import Metadata
from fairsynth.data.rules.split_words import split_in, split_of
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


def is_table(name: str) -> bool:
    """True for the name of a metadata table, in any case."""
    return name.lower() in TABLES


def split_folders(storage: Storage) -> list[str]:
    """Folders at the root that are named like splits."""
    return [name for name in storage.names() if split_of(name) and storage.is_folder(name)]


def shards(storage: Storage, suffixes: tuple[str, ...]) -> list[str]:
    """Paths of all files with these suffixes. Raises DataError if none is found, and for a name that is not UTF-8."""
    files = [file for file in storage.files() if container(file.path, file.location).lower().endswith(suffixes)]
    if not files:
        raise DataError(f"{storage.root} holds no {suffixes[0]} file")
    odd = next((file for file in files if file.location), None)
    if odd is not None:
        raise DataError(f"the name of {storage.name(odd.path)} is not UTF-8; rename the file")
    return [file.path for file in files]


def shard_split(path: str) -> str:
    """The split of a shard or a table: by the words of its name, else the nearest folder named like a split, else empty."""
    *folders, name = path.split("/")
    return split_in(name.partition(".")[0]) or next(
        (split for word in reversed(folders) if (split := split_of(word))), ""
    )


def not_named(storage: Storage, metadata: Metadata) -> list[str]:
    """Paths of image files below the root that the metadata does not name."""
    named = {container(entry.path, entry.location) for entry in metadata.entries}
    named |= {image.path for image in (*metadata.quarantined, *metadata.excluded)}
    return [
        file.path
        for file in storage.files()
        if is_image_file(file) and not {container(file.path, file.location), file.path} & named
    ]

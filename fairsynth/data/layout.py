"""What several dataset layouts share: image suffixes, metadata tables, split folders and split names."""

from __future__ import annotations

import re

from fairsynth.data.location import container
from fairsynth.data.metadata import split_of
from fairsynth.data.storage import FileEntry, Storage
from fairsynth.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SPLIT_WORDS = "train (training), val (valid, validation, dev), test (testing)"


def is_image(name: str) -> bool:
    """True if a file's name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_image_file(file: FileEntry) -> bool:
    """The same for a file whose name may not be UTF-8."""
    return is_image(container(file.path, file.location))


def split_folders(storage: Storage) -> list[str]:
    """Folders at the root that are named like splits."""
    return [name for name in storage.names() if split_of(name) and storage.is_folder(name)]


def known_split(where: str, word: str) -> str:
    """train, val or test. Raises DataError, with ``where``, for a word that is no split."""
    split = split_of(word)
    if split is None:
        raise DataError(f"{where}: split is {word!r}; allowed: {SPLIT_WORDS}")
    return split


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
    """The split of a shard: by the first word of its name, else the nearest folder named like a split, else empty."""
    *folders, name = path.split("/")
    words = [re.split(r"[^A-Za-z]", name, maxsplit=1)[0], *reversed(folders)]
    return next((split for word in words if (split := split_of(word))), "")

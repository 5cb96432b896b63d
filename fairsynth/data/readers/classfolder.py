"""Folders by class, without a table: [split/]label/file or [split/]label/attribute/file."""

from __future__ import annotations

from collections import Counter

from fairsynth.config import DataConfig
from fairsynth.data.layout import TABLES, is_image, is_image_file
from fairsynth.data.metadata import Fields, Metadata, SetAside, split_of
from fairsynth.data.readers import celeba, folder, utkface
from fairsynth.data.storage import Storage
from fairsynth.data.table import check_columns
from fairsynth.errors import DataError

LEVELS = ("label", "attribute")
_TABULAR = (".csv", ".jsonl", ".parquet", ".tar")


def recognises(storage: Storage) -> bool:
    """True for folders with images one to three levels down, no table and no other layout's marks."""
    names = storage.names()
    if any(is_image(name) or name.lower().endswith(_TABULAR) for name in names):
        return False
    if any(other.recognises(storage) for other in (celeba, folder, utkface)):
        return False
    return any(_holds_images(storage, name, len(LEVELS) + 1) for name in names[:8])


def _holds_images(storage: Storage, place: str, levels: int) -> bool:
    names = storage.names(place)
    if levels == 0 or set(TABLES) & set(names):
        return False
    return any(map(is_image, names)) or any(_holds_images(storage, f"{place}/{name}", levels - 1) for name in names[:4])


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries sorted by path; label and attribute are the folders' names.

    Folders are splits if all of them at the root are named like splits. Files at another depth than most
    are set aside (``unexpected_depth``), files that are no images are ignored and counted in a remark.
    Raises DataError: no images, images too deep or without a folder, no attribute where one is wanted.
    """
    fields = Fields.of(config, *LEVELS)
    check_columns(f"the folder layout of {storage.root}", LEVELS, fields.needed)
    files = storage.files()
    images = [(file, file.path.split("/")[:-1]) for file in files if is_image_file(file)]
    tops = sorted({folders[0] for _, folders in images if folders})
    with_splits = bool(tops) and all(split_of(name) for name in tops)
    levels = {file.path: folders[1:] if with_splits else folders for file, folders in images}
    depth = _usual_depth(storage, [len(folders) for folders in levels.values()])
    if depth < len(fields.needed):
        raise DataError(
            f"{storage.root} has one level of folders (label/) and so no attribute; add folders label/attribute/, or let "
            "clusters stand in for it: --data.attribute discover, without data.attribute_column"
        )
    entries, quarantined = [], []
    for file, folders in images:
        values = levels[file.path]
        if len(values) != depth:
            quarantined.append(
                SetAside(file.path, "unexpected_depth", f"{len(values)} folders; most images have {depth}")
            )
            continue
        split = split_of(folders[0]) if with_splits else None
        entries.append(fields.entry(dict(zip(LEVELS, values, strict=False)), file.path, split or "", file.location))
    return Metadata(entries, quarantined, remarks=_remarks(len(files) - len(images), tops, with_splits))


def _usual_depth(storage: Storage, depths: list[int]) -> int:
    """The most frequent depth below the split; of two the deeper. Raises DataError if it is not 1 or 2."""
    counts = Counter(depths)
    usual = max(counts, key=lambda depth: (counts[depth], depth), default=0)
    if not 1 <= usual <= len(LEVELS):
        found = ", ".join(f"{n} with {depth} folders" for depth, n in sorted(counts.items())) or "none"
        raise DataError(
            f"{storage.root}: images must lie in label/ or label/attribute/, below the split if any; found: {found}"
        )
    return usual


def _remarks(others: int, tops: list[str], with_splits: bool) -> list[str]:
    remarks = [f"{others} files are no images by their names and were ignored"] if others else []
    words = [name for name in tops if split_of(name)]
    if words and not with_splits:
        rest = next(name for name in tops if not split_of(name))
        remarks.append(
            f"folders named like splits ({', '.join(words)}) were taken as labels, because {rest!r} is no split"
        )
    return remarks

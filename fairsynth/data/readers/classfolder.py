"""Folders by class, without a table: [split/]label/file or [split/]label/attribute/file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from fairsynth.config import DataConfig, Section
from fairsynth.config.values import plain_value
from fairsynth.data.image_names import is_image, is_image_file, is_read
from fairsynth.data.layout import ignored_files, is_table
from fairsynth.data.metadata import Fields, Metadata, SetAside
from fairsynth.data.readers import celeba, folder, utkface
from fairsynth.data.rules.split_words import DROP, exact_split, meaning
from fairsynth.data.storage import FileEntry, Storage
from fairsynth.data.tables.columns import places
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

LEVELS = ("label", "attribute")
_TABULAR = (".csv", ".tsv", ".jsonl", ".parquet", ".tar")


# A file, and the folders that it lies in, from the root on.
Placed = tuple[FileEntry, list[str]]


class Options(Section):
    """Settings of this format (``data.options``)."""

    top: Literal["auto", "split", "label"] = "auto"
    """What the folders at the root are. auto: splits if all are named like splits, labels if none is or one alone; else the dataset is refused."""


def recognises(storage: Storage) -> bool:
    """True for folders with images one to three levels down, no table and no other layout's marks."""
    return _holds_classes(storage, len(LEVELS) + 1) and not any(is_image(name) for name in storage.names())


def resembles(storage: Storage) -> bool:
    """The same with further levels, and with images beside the folders."""
    return _holds_classes(storage, len(LEVELS) + 3)


def _holds_classes(storage: Storage, levels: int) -> bool:
    names = storage.names()
    if any(name.lower().endswith(_TABULAR) for name in names) or utkface.recognises(storage):
        return False
    if any(other.recognises(storage) or other.resembles(storage) for other in (celeba, folder)):
        return False
    return any(_holds_images(storage, name, levels) for name in names[:8])


def _holds_images(storage: Storage, place: str, levels: int) -> bool:
    names = storage.names(place)
    if levels == 0 or any(map(is_table, names)):
        return False
    return any(map(is_image, names)) or any(_holds_images(storage, f"{place}/{name}", levels - 1) for name in names[:4])


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries sorted by path; label and attribute are the folders' names.

    Folders at the root are splits as ``Options.top`` says. Files at another depth than most are set aside
    (``unexpected_depth``), those in a folder that is named like an image are left out (``beside_an_image``: thumbnails),
    files that are no images are ignored and counted in a remark.
    Raises DataError: no images, images too deep or without a folder, no attribute where one is wanted, folders of which
    only some are named like splits.
    """
    fields = Fields.of(config, *LEVELS)
    places(f"the folder layout of {storage.root}", LEVELS, fields.needed)
    files = storage.files()
    found = [(file, file.path.split("/")[:-1]) for file in files if is_image_file(file)]
    images, excluded = _apart(found, config.split_names)
    tops = sorted({folders[0] for _, folders in images if folders})
    with_splits = _are_splits(storage, tops, Options.model_validate(config.options).top, config.split_names)
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
            detail = f"{len(values)} folders; most images have {depth}"
            quarantined.append(SetAside(file.path, "unexpected_depth", detail))
            continue
        split = folders[0] if with_splits else ""
        entries.append(fields.entry(dict(zip(LEVELS, values, strict=False)), file.path, split, file.location))
    ignored = [file.path for file in files if not is_image_file(file)]
    remarks = [*ignored_files(ignored), *([] if with_splits else _taken_as_labels(tops))]
    return Metadata(entries, quarantined, excluded, remarks)


def _apart(found: list[Placed], names: Mapping[str, str]) -> tuple[list[Placed], list[SetAside]]:
    """The images, and those that are left out: thumbnails, and what lies in a folder of which ``names`` says so."""
    images: list[Placed] = []
    excluded: list[SetAside] = []
    for file, folders in found:
        if any(map(is_read, folders)):
            excluded.append(SetAside(file.path, "beside_an_image"))
        elif folders and meaning(folders[0], names) == DROP:
            excluded.append(SetAside(file.path, "split_dropped"))
        else:
            images.append((file, folders))
    return images, excluded


def _are_splits(storage: Storage, tops: list[str], top: str, names: Mapping[str, str]) -> bool:
    """Whether the folders at the root are splits. Raises DataError if only some of them look like it."""
    meant = {name: meaning(name, names) for name in tops}
    splits, others = ([name for name in tops if bool(meant[name]) is wanted] for wanted in (True, False))
    if top == "label":
        return False
    said = any(plain_value(name.strip()) in names for name in splits)
    if others and (top == "split" or said or len({meant[name] for name in splits}) > 1):
        raise DataError(
            f"{storage.root}: the folders {enumerated(splits) or '(none)'} are named like splits, but {enumerated(others)} not; "
            "move or rename what does not belong there, say what it is (data.split_names), or, if they all are labels: "
            "--data.options '{top: label}'"
        )
    return bool(splits) and not others


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


def _taken_as_labels(tops: list[str]) -> list[str]:
    words = [name for name in tops if exact_split(name)]
    rest = next((name for name in tops if not exact_split(name)), "")
    why = f"because {rest!r} is no split" if rest else "as data.options.top says"
    return [f"folders named like splits ({enumerated(words)}) were taken as labels, {why}"] if words else []

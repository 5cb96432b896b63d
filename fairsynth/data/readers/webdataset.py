"""WebDataset: tar shards whose members belong together by their name up to the first dot.

An image, and label, attribute and split in <key>.json, or only the label in <key>.cls or <key>.txt. Only
headers and these small members are read.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from fairsynth.config import DataConfig
from fairsynth.data.layout import TABLES, is_image, known_split, shard_split, shards, split_folders
from fairsynth.data.location import tar_location
from fairsynth.data.metadata import Entry, Fields, Metadata, SetAside
from fairsynth.data.storage import Storage, named
from fairsynth.data.table import Row, check_columns, read_object
from fairsynth.data.tar import COMPRESSED, is_safe, members

SUFFIX = ".tar"
TEXTS = (".json", ".cls", ".txt")


@dataclass(slots=True)
class _Sample:
    """The members of one key: path and location of the image, the fields, or the label alone."""

    image: tuple[str, str] | None = None
    further: int = 0
    row: Row | None = None
    cls: str = ""
    txt: str = ""


def recognises(storage: Storage) -> bool:
    """True for .tar files at the root or in a split's folder, with no metadata table at the root."""
    top = storage.names()
    inside = (name for folder in split_folders(storage) for name in storage.names(folder))
    return not set(TABLES) & set(top) and any(name.lower().endswith(SUFFIX) for name in chain(top, inside))


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries by shard, in the order of the members.

    The split is a field of the JSON, else from the shard's name (train-0000.tar) or folder. Set aside: what is
    no regular file inside the shard (``unsafe_member``), a sample without an image (``missing_file``).
    Raises DataError: no shard, a truncated or damaged one, malformed JSON, an unknown split,
    a field that no sample has.
    """
    fields = Fields.of(config, "label", "attribute")
    metadata, seen, further = Metadata([]), dict[str, None](), 0
    for shard in shards(storage, (SUFFIX, *COMPRESSED)):
        for key, sample in _samples(storage, shard, metadata.quarantined).items():
            seen |= dict.fromkeys(sample.row or ())
            further += sample.further
            if sample.image is None:
                metadata.quarantined.append(SetAside(f"{shard}/{key}", "missing_file", "a sample without an image"))
            else:
                where = f"{storage.name(shard)}, {key}.json"
                metadata.entries.append(_entry(config, fields, sample, *sample.image, shard, where))
    if seen:
        # A split field of another name than the usual one was asked for and must be there.
        asked = (config.split_column,) if config.split_column != DataConfig().split_column else ()
        check_columns(f"the JSON in {storage.root}", list(seen), (*fields.needed, *asked))
    if further:
        metadata.remarks.append(f"{further} further images of samples with several were ignored")
    return metadata


def _entry(
    config: DataConfig, fields: Fields, sample: _Sample, path: str, location: str, shard: str, where: str
) -> Entry:
    row = sample.row if sample.row is not None else {fields.label: sample.cls or sample.txt}
    word = row.get(config.split_column, "")
    split = known_split(where, word) if word else shard_split(shard)
    return fields.entry(dict.fromkeys(fields.needed, "") | row, path, split, location)


def _samples(storage: Storage, shard: str, quarantined: list[SetAside]) -> dict[str, _Sample]:
    """The samples of a shard by key."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    for member, text in members(storage, shard, TEXTS):
        escaped = named(member.name.encode("utf-8", "surrogateescape"))[0]
        if member.isdir() or _is_hidden(escaped):
            continue
        if not is_safe(member):
            quarantined.append(SetAside(f"{shard}/{escaped}", "unsafe_member"))
            continue
        name = PurePosixPath(escaped)
        stem, _, suffix = name.name.partition(".")
        if suffix:
            _put(samples[str(name.with_name(stem))], storage, shard, str(name), member, text)
    return samples


def _is_hidden(name: str) -> bool:
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in PurePosixPath(name).parts)


def _put(sample: _Sample, storage: Storage, shard: str, name: str, member: tarfile.TarInfo, text: str) -> None:
    suffix = member.name.rpartition("/")[2].partition(".")[2].lower()
    if is_image(member.name):
        sample.further += sample.image is not None
        sample.image = sample.image or (f"{shard}/{name}", tar_location(shard, member.offset_data, member.size))
    elif suffix == "json":
        sample.row = read_object(f"{storage.name(shard)}, {name}", text)
    elif suffix == "cls":
        sample.cls = text.strip()
    elif suffix == "txt":
        sample.txt = text.strip()

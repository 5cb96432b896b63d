"""WebDataset: tar shards whose members belong together by their name up to the first dot.

An image; label, attribute and split in <key>.json, the label also in <key>.cls, or in <key>.txt where there is neither.
Only headers and these small members are read.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal

from fairsynth.config import DataConfig, Section
from fairsynth.data.image_names import is_image
from fairsynth.data.layout import is_table, shard_split, shards, split_folders
from fairsynth.data.location import tar_location
from fairsynth.data.metadata import Fields, Found, Metadata, SetAside
from fairsynth.data.storage import Storage, is_hidden, named
from fairsynth.data.tables.columns import places, value_of
from fairsynth.data.tables.table import Row, read_object
from fairsynth.data.tar import COMPRESSED, is_safe, members
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

SUFFIX = ".tar"
TEXTS = (".json", ".cls", ".txt")


class Options(Section):
    """Settings of this format (``data.options``)."""

    image: str = ""
    """Which image of a sample is meant, where samples have several: what follows the key and a dot, such as jpg or input.png."""
    key_ends: Literal["first dot", "last dot"] = "first dot"
    """Where a member's key ends: at the first dot of its name (WebDataset's rule), or at the last one, for keys such as v1.003."""


@dataclass(slots=True)
class _Sample:
    """The members of one key: path and location of each image by what follows the key, and the texts by their ending."""

    images: dict[str, tuple[str, str]] = field(default_factory=dict)
    row: Row | None = None
    cls: str = ""
    txt: str = ""
    dotted: bool = False
    """A text's ending has a dot inside: the key may have been meant to end later."""

    @property
    def label(self) -> str:
        """The label that stands outside the JSON; a text beside a JSON is a caption."""
        return self.cls or (self.txt if self.row is None else "")


def recognises(storage: Storage) -> bool:
    """True for .tar files at the root or in a split's folder, with no metadata table at the root."""
    top = storage.names()
    inside = (name for folder in split_folders(storage) for name in storage.names(folder))
    return not any(map(is_table, top)) and any(name.lower().endswith(SUFFIX) for name in chain(top, inside))


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries by shard, in the order of the members.

    The split is a field of the JSON, else from the shard's name (train-0000.tar) or folder. Set aside: what is
    no regular file inside the shard (``unsafe_member``), a sample without an image (``missing_file``), images of a
    sample that are not meant (``other_image``).
    Raises DataError: no shard, a truncated or damaged one, malformed JSON, several images in a sample and no word which
    is meant, keys that seem to end later than at the first dot, a field that no sample has.
    """
    fields, options, found = Fields.of(config, "label", "attribute"), Options.model_validate(config.options), Found()
    seen = dict[str, None]()
    for shard in shards(storage, (SUFFIX, *COMPRESSED)):
        samples = _samples(storage, shard, (*fields.needed, config.split_column), options, found)
        _check_keys(storage.name(shard), samples)
        for key, sample in samples.items():
            seen |= dict.fromkeys(sample.row or ())
            seen |= {fields.label: None} if sample.label else {}
            _add(
                config,
                fields,
                sample,
                f"{shard}/{key}",
                _chosen(sample, options, f"{storage.name(shard)}, {key}"),
                found,
            )
    if seen:
        # A split field of another name than the usual one was asked for and must be there.
        asked = (config.split_column,) if config.split_column != DataConfig().split_column else ()
        places(f"the JSON in {storage.root}", list(seen), (*fields.needed, *asked))
    return found.metadata


def _chosen(sample: _Sample, options: Options, where: str) -> str | None:
    """Which of a sample's images is meant. Raises DataError if nobody can know."""
    if options.image:
        return options.image.lower() if options.image.lower() in sample.images else None
    if len(sample.images) > 1:
        raise DataError(
            f"{where} has several images: {enumerated([*sample.images])}; say which is meant: "
            f"--data.options '{{image: {next(iter(sample.images))}}}'"
        )
    return next(iter(sample.images), None)


def _add(config: DataConfig, fields: Fields, sample: _Sample, name: str, chosen: str | None, found: Found) -> None:
    others = [path for ending, (path, _) in sample.images.items() if ending != chosen]
    found.excluded += [SetAside(path, "other_image") for path in others]
    if chosen is None:
        found.quarantined.append(SetAside(name, "missing_file", "a sample without an image, or without the one meant"))
        return
    path, location = sample.images[chosen]
    row = {column: value_of(sample.row or {}, column) or "" for column in (*fields.needed, config.split_column)}
    row[fields.label] = row[fields.label] or sample.label
    split = row[config.split_column] or shard_split(path.rpartition(SUFFIX)[0] + SUFFIX)
    found.entries.append(fields.entry(row, path, split, location))


def _check_keys(where: str, samples: dict[str, _Sample]) -> None:
    """Raise DataError if keys have dots: many samples would become one, and their texts would not be read."""
    odd = {key: sample for key, sample in samples.items() if sample.dotted and sample.images and sample.row is None}
    if not odd or any(sample.label for sample in odd.values()):
        return
    key, sample = next(iter(odd.items()))
    ending = next(iter(sample.images))
    raise DataError(
        f"{where}: names have several dots ({key}.{ending}); a key ends at the first one, so that {len(sample.images)} images "
        f"share the key {key!r}; rename the members, or, if a key ends at the last dot: --data.options '{{key_ends: last dot}}'"
    )


def _samples(
    storage: Storage, shard: str, needed: tuple[str, ...], options: Options, found: Found
) -> dict[str, _Sample]:
    """The samples of a shard by key."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    for member, text in members(storage, shard, TEXTS):
        escaped = named(member.name.encode("utf-8", "surrogateescape"))[0]
        if member.isdir() or _is_hidden(escaped):
            continue
        if not is_safe(member):
            found.quarantined.append(SetAside(f"{shard}/{escaped}", "unsafe_member"))
            continue
        name = PurePosixPath(escaped)
        # The key from the name as it is shown, what follows it from the name as it is.
        stem, ending = _parted(name.name, options)[0], _parted(member.name.rpartition("/")[2], options)[2]
        sample = samples[str(name.with_name(stem))] if stem and ending else None
        if sample is not None and ending.lower() in sample.images:
            found.quarantined.append(SetAside(f"{shard}/{escaped}", "repeated_member"))
        elif sample is not None:
            _put(sample, storage, shard, str(name), ending.lower(), member, text, needed)
        elif is_image(name.name):
            found.quarantined.append(SetAside(f"{shard}/{escaped}", "no_key"))
    return samples


def _parted(name: str, options: Options) -> tuple[str, str, str]:
    return name.partition(".") if options.key_ends == "first dot" else name.rpartition(".")


def _is_hidden(name: str) -> bool:
    return any(part != ".." and is_hidden(part) for part in PurePosixPath(name).parts)


def _put(
    sample: _Sample, storage: Storage, shard: str, name: str, ending: str, member: tarfile.TarInfo, text: str,
    needed: tuple[str, ...],
) -> None:  # fmt: skip
    if is_image(f".{ending}"):
        sample.images[ending] = (f"{shard}/{name}", tar_location(shard, member.offset_data, member.size))
    elif ending == "json":
        sample.row = read_object(f"{storage.name(shard)}, {name}", text, needed)
    elif ending == "cls":
        sample.cls = text.strip()
    elif ending == "txt":
        sample.txt = text.strip()
    sample.dotted |= ending not in ("json", "cls", "txt") and f".{ending}".endswith(TEXTS)

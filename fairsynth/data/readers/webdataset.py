"""WebDataset: tar shards whose members belong together by their name up to the first dot.

An image; label, attribute and split in <key>.json, the label also in <key>.cls, or in <key>.txt where there is neither.
Only headers and these small members are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from fairsynth.config import DataConfig, Section
from fairsynth.data.layout import is_table, shard_split, shards, split_folders
from fairsynth.data.metadata import Fields, Found, Metadata, SetAside
from fairsynth.data.shard_samples import KeyEnds, Sample, samples_of
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places, value_of
from fairsynth.data.tar import COMPRESSED
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

SUFFIX = ".tar"
HAS_SPLIT_COLUMN = True


class Options(Section):
    """Settings of this format (``data.options``)."""

    image: str = ""
    """Which image of a sample is meant, where samples have several: what follows the key and a dot, such as jpg or input.png."""
    key_ends: KeyEnds = "first dot"
    """Where a member's key ends: at the first dot of its name (WebDataset's rule), or at the last one, for keys such as v1.003."""


def recognises(storage: Storage) -> bool:
    """True for .tar files at the root or in a split's folder, with no metadata table at the root."""
    return _has_shards(storage, (SUFFIX,))


def resembles(storage: Storage) -> bool:
    """The same for compressed ones."""
    return _has_shards(storage, COMPRESSED)


def _has_shards(storage: Storage, suffixes: tuple[str, ...]) -> bool:
    top = storage.names()
    inside = (name for folder in split_folders(storage) for name in storage.names(folder))
    return not any(map(is_table, top)) and any(name.lower().endswith(suffixes) for name in chain(top, inside))


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries by shard, in the order of the members.

    The split is a field of the JSON, else from the shard's name (train-0000.tar) or folder. Set aside: what is
    no regular file inside the shard (``unsafe_member``), a sample without an image (``missing_file``), images of a
    sample that are not meant (``other_image``).
    Raises DataError: no shard, a truncated or damaged one, several images in a sample and no word which is meant, keys
    that seem to end later than at the first dot, a field that no sample has. Problems: malformed JSON, a member twice.
    """
    fields, options, found = Fields.of(config, "label", "attribute"), Options.model_validate(config.options), Found()
    wanted, seen, texts = (*fields.needed, config.split_column), dict[str, None](), list[str]()
    for shard in shards(storage, (SUFFIX, *COMPRESSED)):
        samples = samples_of(storage, shard, wanted, options.key_ends, found)
        _check_keys(storage.name(shard), samples)
        for key, sample in samples.items():
            seen |= dict.fromkeys(sample.row or ()) | ({fields.label: None} if sample.label and sample.images else {})
            if sample.says_nothing:
                texts.append(f"{shard}/{key}")
                continue
            chosen = _chosen(sample, options.image, f"{storage.name(shard)}, {key}")
            if image := _image(sample, chosen, f"{shard}/{key}", found):
                row = _fields_of(sample, fields, config)
                split = row[config.split_column] or shard_split(shard, config.split_names)
                found.entries.append(fields.entry(row, image[0], split, image[1]))
    if texts:
        found.remarks.append(f"{len(texts)} texts belong to no image and were ignored: {enumerated(texts, most=3)}")
    if seen:
        asked = (config.split_column,) if config.other_split_column else ()
        places(f"the JSON in {storage.root}", list(seen), (*fields.needed, *asked))
    return found.metadata


def _chosen(sample: Sample, asked: str, where: str) -> str | None:
    """Which of a sample's images is meant. Raises DataError if nobody can know."""
    if asked:
        ending = asked.lower().removeprefix(".")
        return ending if ending in sample.images else None
    if len(sample.images) > 1:
        raise DataError(
            f"{where} has several images: {enumerated([*sample.images])}; say which is meant: "
            f"--data.options '{{image: {next(iter(sample.images))}}}'"
        )
    return next(iter(sample.images), None)


def _image(sample: Sample, chosen: str | None, name: str, found: Found) -> tuple[str, str] | None:
    """Path and location of the sample's image, if it can be used; the others are set aside."""
    if sample.malformed:
        paths = [path for path, _ in sample.images.values()] or [name]
        found.quarantined += [SetAside(path, "malformed_json", sample.malformed) for path in paths]
        return None
    others = [path for ending, (path, _) in sample.images.items() if ending != chosen]
    found.excluded += [SetAside(path, "other_image") for path in others]
    if chosen is None:
        has = f"it has {enumerated([*sample.images])}" if sample.images else "a sample without an image"
        found.quarantined.append(SetAside(name, "missing_file", has))
        return None
    return sample.images[chosen]


def _fields_of(sample: Sample, fields: Fields, config: DataConfig) -> dict[str, str]:
    row = {column: value_of(sample.row or {}, column) or "" for column in (*fields.needed, config.split_column)}
    return row | {fields.label: row[fields.label] or sample.label}


def _check_keys(where: str, samples: Mapping[str, Sample]) -> None:
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

"""Checks that need no model and no Ray: they end a hopeless run within seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fairsynth.config import RunConfig
from fairsynth.config.suggest import did_you_mean, nearest
from fairsynth.data.metadata import Metadata
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import enumerated
from fairsynth.groups import SEPARATOR, Group
from fairsynth.manifest import TRAIN
from fairsynth.prompts import is_number
from fairsynth.run_folder.mark import VIEWS
from fairsynth.store.mirror import place_of
from fairsynth.tracking.write import check

# Two spellings of a value are this much alike before one is taken for a misspelt other: "old" may stand beside "older".
_LIKE = 0.8


def check_early(config: RunConfig, root: Path) -> Metadata | None:
    """Read the metadata and compare it with the config; returns it (None for the demo, which is not written yet).

    Raises DataError or ConfigError: no dataset, bad metadata, an impossible severity, k larger than a group, an output
    folder inside the dataset, a route for an unknown group, a tracker that is not installed.
    """
    check(config.tracking)
    if config.data.format == "demo":
        from fairsynth.demo.dataset import ALIGNED, ATTRIBUTES

        check_routes(config, ALIGNED, ATTRIBUTES)
        check_words(config, ALIGNED, ATTRIBUTES)
        return None
    from fairsynth.data.dataset import levelled, load
    from fairsynth.stages.ingest.decide import check_groups, check_k

    storage = Storage(config.data.root, config.data.follow_links)
    check_place(storage, root)
    metadata = load(config.data, storage)
    check_groups(metadata.entries, config.data)
    check_folders(groups_of(config, metadata))
    check_words(worded(config, metadata), *values_of(metadata))
    _, kept = levelled(config.data, metadata)
    if config.data.attribute == "column":
        check_k(config, Counter(Group(e.label, e.attribute) for e in kept.entries if e.split == TRAIN))
        check_routes(config, *values_of(metadata))
    return metadata


def check_place(storage: Storage, root: Path) -> None:
    """Raise ConfigError for an output folder inside the dataset, and for a dataset in what a run there would replace."""
    if storage.local is None:
        place, source = f"{root}/", f"{storage.root.partition('?')[0].rstrip('/')}/"
        if place_of(root) and (place.startswith(source) or source.startswith(place)):
            raise ConfigError(
                f"the output {root} and the dataset {source} lie in one another, and a dataset is never written to; choose "
                "another prefix with --out"
            )
        return
    folder = storage.local.resolve()
    if root == folder or root.is_relative_to(folder):
        raise ConfigError(
            f"the output folder {root} lies inside the dataset {folder}, which is never written to; choose another with --out"
        )
    if folder.is_relative_to(root) and folder.relative_to(root).parts[0] in ("stages", *VIEWS):
        raise ConfigError(
            f"the dataset {folder} lies where a run in {root} writes its results, and would be replaced; choose another "
            "output folder with --out"
        )


def worded(config: RunConfig, metadata: Metadata | None) -> RunConfig:
    """The config, with the words that the dataset gives for labels and attributes where the config gives none."""
    if metadata is None or not metadata.words:
        return config
    data, words = config.data, metadata.words
    names = {
        "label_names": words.get("label", {}) | data.label_names,
        "attribute_names": words.get("attribute", {}) | data.attribute_names,
    }
    return config.model_copy(update={"data": data.model_copy(update=names)})


def values_of(metadata: Metadata) -> tuple[set[str], set[str]]:
    """The labels and the attributes of a dataset."""
    return {entry.label for entry in metadata.entries}, {entry.attribute for entry in metadata.entries}


def groups_of(config: RunConfig, metadata: Metadata) -> list[Group]:
    """Every pair of a dataset's label and attribute, sorted; where attributes are discovered, one for each label."""
    labels, attributes = values_of(metadata)
    attributes = attributes if config.data.attribute == "column" else {"kind-1"}
    return [Group(label, attribute) for label in sorted(labels) for attribute in sorted(attributes)]


def check_folders(groups: Iterable[Group], case_counts: bool = True) -> None:
    """Raise DataError for two groups whose folders, and whose adapters' names, would be one.

    ``case_counts``: whether the output folder's disk tells upper from lower case.
    """
    taken = dict[str, Group]()
    for group in groups:
        slug = group.slug if case_counts else group.slug.casefold()
        other = taken.setdefault(slug, group)
        if other != group:
            why = "" if case_counts else " on the output folder's disk, which does not tell upper from lower case"
            raise DataError(
                f"the groups {other} and {group} would have one folder, {slug}{why}; change a value of one of them in the "
                "dataset's metadata" + ("" if case_counts else ", or choose another disk with --out")
            )


def check_words(config: RunConfig, labels: Iterable[str], attributes: Iterable[str]) -> None:
    """Raise ConfigError for a word whose value is misspelt: the dataset lacks it, but has one like it without a word.

    Values that the dataset lacks altogether do no harm: a config may be for several datasets. No number is like another.
    """
    data = config.data
    parts = {part for value in attributes for part in value.split(SEPARATOR)}
    named = [("label_names", data.label_names, {*labels})]
    if data.attribute == "column":
        named.append(("attribute_names", data.attribute_names, {*attributes, *parts}))
    for field, words, values in named:
        for value in words:
            near = nearest(value, values - words.keys(), _LIKE)
            if value not in values and near is not None and not _two_words(value, near):
                raise ConfigError(
                    f"data.{field} names {value!r} (did you mean {near!r}?), but the dataset has: {enumerated(sorted(values))}"
                )


def _two_words(value: str, near: str) -> bool:
    """Whether two values that are spelled alike are two nevertheless: numbers, and those of which one has letters more."""
    short, long = sorted((value.casefold(), near.casefold()), key=len)
    letters = iter(long)
    grown = len(long) >= len(short) + 2 and all(letter in letters for letter in short)
    return is_number(value) or is_number(near) or grown


def check_routes(config: RunConfig, labels: Iterable[str], attributes: Iterable[str]) -> None:
    """Raise ConfigError for a route of a group that the dataset cannot have."""
    names = sorted(f"{label}/{attribute}" for label in labels for attribute in set(attributes))
    for name in config.synthesize.routes:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ConfigError(f"synthesize.routes names {name!r}{hint}, but the groups are: {enumerated(names)}")

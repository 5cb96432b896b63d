"""The facts of a dataset before anything is spent on it: counts, faults, copies, ties, and what a run would do."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fairsynth.config import RunConfig
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.data.near_duplicates import near_duplicates
from fairsynth.data.vectors import byte_rows
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import SPLITS, TRAIN
from fairsynth.prompts import fill, wordless
from fairsynth.stages.ingest.content import LIMITS, Examined, examine, wrong_extensions
from fairsynth.stages.ingest.decide import check_k, group_problems

SCHEMA = 1


def inspect(config: RunConfig, metadata: Metadata, checked: pa.Table, orphans: Sequence[str]) -> dict[str, Any]:
    """All findings of ``fairsynth inspect``, ready for JSON.

    ``checked``: a row of ``CHECKED`` and ``LOOK`` for each entry, ordered by path. ``orphans``: image
    files that the metadata does not name. ``problems``: what would stop a run; empty for a usable
    dataset.
    """
    examined = examine(metadata, checked, orphans)
    near = _near(examined, checked)
    copies = _copies(examined)
    return {
        "schema": SCHEMA,
        "images": {
            "input": metadata.total,
            "used": len(examined.used()),
            "quarantined": len(metadata.quarantined) + len(examined.bad) + len(examined.conflicts),
            "excluded": len(metadata.excluded) + len(examined.leaks),
            "not_named": len(orphans),
        },
        "groups": _groups(config, examined),
        "quarantine": _set_aside([*metadata.quarantined, *examined.bad]),
        "excluded": _set_aside(metadata.excluded),
        "conflicts": [{"path": path, "detail": detail} for path, detail in examined.conflicts.items()],
        "leaks": [{"path": path, "detail": detail} for path, detail in examined.leaks.items()],
        "copies": copies,
        "near_copies": near,
        "orphans": list(orphans),
        "wrong_extensions": wrong_extensions(checked),
        "formats": dict(Counter(format for format in checked.column("format").to_pylist() if format).most_common()),
        "sizes": _sizes(checked),
        "association": association(Counter((e.label, e.attribute) for e, _ in examined.used() if e.split == TRAIN)),
        "prompts": _prompts(config, examined),
        "remarks": [*metadata.remarks, *_hints(config, examined)],
        "problems": _problems(config, metadata, examined),
    }


# What refusals of other commands say of this one.
_HERE = re.compile(r"[.;] 'fairsynth inspect' (lists them all;|says why they cannot be used:)")


def _problems(config: RunConfig, metadata: Metadata, examined: Examined) -> list[str]:
    """Every reason for which a run would refuse the dataset."""
    problems = [*metadata.problems, *(group_problems(metadata.entries, config.data) if metadata.entries else ())]
    try:
        if config.data.attribute == "column":
            train = (entry for entry in metadata.entries if entry.split == TRAIN)
            check_k(config, Counter(Group(entry.label, entry.attribute) for entry in train))
    except DataError as error:
        problems.append(str(error))
    for check in LIMITS:
        try:
            check(config.data, metadata, examined)
        except DataError as error:
            problems.append(str(error))
    return [_HERE.sub(";", problem) for problem in problems]


def _prompts(config: RunConfig, examined: Examined) -> dict[str, str]:
    """What a run would ask the generator for, of each group that is there; nothing for attributes to be discovered."""
    if config.data.attribute == "discover":
        return {}
    groups = sorted({Group(e.label, e.attribute) for e, _ in examined.used()})
    return {str(group): fill(config.synthesize.prompt, config.data, group) for group in groups}


def _hints(config: RunConfig, examined: Examined) -> list[str]:
    groups = {Group(e.label, e.attribute) for e, _ in examined.used()}
    bare = [] if config.data.attribute == "discover" else wordless(config.synthesize.prompt, config.data, groups)
    return [*([examined.hint] if examined.hint else []), *bare]


def _set_aside(set_aside: Sequence[SetAside]) -> dict[str, Any]:
    return {
        "by_reason": dict(Counter(image.reason for image in set_aside).most_common()),
        "files": [image._asdict() for image in set_aside],
    }


def _groups(config: RunConfig, examined: Examined) -> list[dict[str, Any]]:
    """Every pair of label and attribute: usable images per split, and what becomes of it."""
    used = [entry for entry, _ in examined.used()]
    counts = Counter((entry.split, Group(entry.label, entry.attribute)) for entry in used)
    distinct = Counter(
        Group(e.label, e.attribute) for e in used if e.split == TRAIN and e.path not in examined.first_of
    )
    labels, attributes = ({e[index] for e in used} for index in (2, 3))
    return [
        {
            "label": group.label,
            "attribute": group.attribute,
            **{split: counts[split, group] for split in SPLITS},
            "fate": fate(config, distinct[group]),
        }
        for group in sorted(Group(y, a) for y in labels for a in attributes)
    ]


def fate(config: RunConfig, n: int) -> str:
    """What a run does with a group of ``n`` different training images."""
    if config.data.attribute == "discover":
        return "attributes are to be discovered"
    if n == 0:
        made = config.synthesize.absent_groups == "make"
        return "no training images: " + ("made as groups without adapters are" if made else "not synthesised")
    if n < config.cluster.min_group:
        return f"fewer than {config.cluster.min_group} training images: no adapter of its own"
    return "adapters of its own"


def _copies(examined: Examined) -> list[list[str]]:
    """Sets of files with the same content inside one split, under one group."""
    sets: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry, sha in examined.used():
        sets[sha, entry.split].append(entry.path)
    return sorted(paths for paths in sets.values() if len(paths) > 1)


def _near(examined: Examined, checked: pa.Table) -> list[dict[str, Any]]:
    """Sets of images that look alike but are different files, and whether they lie in several splits or groups."""
    firsts: dict[str, int] = {}
    for place, sha in enumerate(examined.sha256):
        if sha:
            firsts.setdefault(sha, place)
    places = list(firsts.values())
    hashes, looks = (
        byte_rows(checked.column(name).take(pa.array(places, pa.int64()))) for name in ("hash", "thumbnail")
    )
    sets = []
    for members in near_duplicates(hashes, looks):
        entries: list[Entry] = [examined.entries[places[i]] for i in members]
        sets.append(
            {
                "paths": [e.path for e in entries],
                "across_splits": len({e.split for e in entries}) > 1,
                "across_groups": len({(e.label, e.attribute) for e in entries}) > 1,
            }
        )
    return sets


def _sizes(checked: pa.Table) -> dict[str, Any]:
    pairs = zip(checked.column("width").to_pylist(), checked.column("height").to_pylist(), strict=True)
    known = sorted((w * h, w, h) for w, h in pairs if w)
    if not known:
        return {}
    return {name: list(known[i][1:]) for name, i in (("smallest", 0), ("median", len(known) // 2), ("largest", -1))}


def association(counts: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """How strongly label and attribute are tied in the training split.

    ``mutual_information_bits``: I(label; attribute) of the empirical distribution. ``normalised``: divided
    by the smaller of the two entropies, 0 for independence, 1 if one decides the other. ``cramers_v``:
    sqrt(chi2 / (n * (min(labels, attributes) - 1))). ``per_label``: the most frequent attribute and its share.
    """
    n = sum(counts.values())
    of_label, of_attribute = Counter[str](), Counter[str]()
    for (label, attribute), count in counts.items():
        of_label[label] += count
        of_attribute[attribute] += count
    if n == 0:
        return {"n": 0}
    information = sum(
        count / n * math.log2(count * n / (of_label[y] * of_attribute[a])) for (y, a), count in counts.items() if count
    )
    smaller = min(_entropy(of_label), _entropy(of_attribute))
    chi2 = sum(
        (counts.get((y, a), 0) - of_label[y] * of_attribute[a] / n) ** 2 / (of_label[y] * of_attribute[a] / n)
        for y in of_label
        for a in of_attribute
    )
    side = min(len(of_label), len(of_attribute)) - 1
    per_label = []
    for label in sorted(of_label):
        attribute = min(of_attribute, key=lambda a: (-counts.get((label, a), 0), a))
        share = counts.get((label, attribute), 0) / of_label[label]
        per_label.append({"label": label, "attribute": attribute, "share": share})
    return {
        "n": n,
        "mutual_information_bits": information,
        "normalised": information / smaller if smaller else None,
        "cramers_v": math.sqrt(chi2 / (n * side)) if side else None,
        "per_label": per_label,
    }


def _entropy(counts: Counter[str]) -> float:
    n = sum(counts.values())
    return -sum(count / n * math.log2(count / n) for count in counts.values() if count)

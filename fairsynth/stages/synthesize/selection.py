"""Which images are accepted: unusable ones are rejected, each with its reason, then the best share of each group by
CLIP score (arXiv 2511.08711) is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsynth.config import FilterConfig
from fairsynth.data.near_duplicates import near_duplicates, spread_out
from fairsynth.data.vectors import byte_rows
from fairsynth.groups import Group
from fairsynth.manifest import seed_for
from fairsynth.stages.synthesize.output import ACCEPTED, REASONS, members

_OPEN = 0
"""The code of an undecided image."""
_CODES = {name: code for code, name in enumerate(("", *REASONS, ACCEPTED))}
# Maximum of images to make at once per missing image, however few of a group's images are accepted.
MOST_PER_MISSING = 4


def scores(images: pa.Table, text_weight: float | Literal["random"]) -> NDArray[np.float64]:
    """alpha * similarity to the prompt + (1 - alpha) * similarity to the real centroid (arXiv 2511.08711, CLIP-Score).

    ``random``: a number from 0 to 1 that depends on the image's seed alone.
    """
    if text_weight == "random":
        return np.array([seed_for("score", seed) for seed in images["seed"].to_pylist()], np.float64) / 2**63
    text, centroid = (images[name].to_numpy() for name in ("text_score", "centroid_score"))
    return text_weight * text + (1 - text_weight) * centroid  # type: ignore[no-any-return]


def verdicts(
    images: pa.Table, quota: Mapping[Group, int], config: FilterConfig, copy_threshold: float | None
) -> pa.ChunkedArray:
    """``accepted`` or the reason of rejection of every image, in the table's order.

    Per group at most the share ``keep`` of all its images, and at most its quota: best scores first, ties by
    image_id. ``images`` has the columns of the plan and of ``generate.SEEN``; the result depends on the set of rows,
    not on their order. ``copy_threshold``: the score above which an image counts as a copy; None: none does.
    """
    codes = np.zeros(images.num_rows, np.int8)
    marks = unusable(images, config, copy_threshold)
    for name, mark in marks.items():
        codes[(codes == _OPEN) & mark] = _CODES[name]
    order = _best_first(images, config)
    rank = np.argsort(order)
    groups = {group: rows[np.argsort(rank[rows])] for group, rows in members(images).items()}
    _mark_duplicates(images, order, list(groups.values()), codes, config)
    for group, best in groups.items():
        usable = best[codes[best] == _OPEN]
        limit = min(quota.get(group, 0), math.floor(config.keep * len(best) + 1e-9))
        codes[usable[:limit]], codes[usable[limit:]] = _CODES[ACCEPTED], _CODES["low_score"]
    names = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(_CODES)))
    return pa.chunked_array([names.cast(pa.string())])


def _best_first(images: pa.Table, config: FilterConfig) -> NDArray[np.int64]:
    """Places of all images, best scores first, ties by image_id."""
    scored = pa.table({"score": scores(images, config.text_weight), "id": images["image_id"]})
    return pc.sort_indices(scored, [("score", "descending"), ("id", "ascending")]).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def unusable(images: pa.Table, config: FilterConfig, copy_threshold: float | None) -> dict[str, NDArray[np.bool_]]:
    """Which images are unusable by themselves, by reason, in the order that counts."""
    columns = {name: images[name].to_numpy() for name in ("constant", "label_probability", "attribute_probability")}
    copies = pc.fill_null(images["copy_score"], -1.0).to_numpy()
    flagged = np.zeros(len(copies), bool)
    if config.near_copies and copy_threshold is not None:
        flagged = copies > copy_threshold
    return {
        "constant": columns["constant"].astype(bool),
        "near_copy": flagged,
        "wrong_label": columns["label_probability"] < config.min_probability,
        "wrong_attribute": columns["attribute_probability"] < config.min_probability,
    }


def _mark_duplicates(
    images: pa.Table,
    order: NDArray[np.int64],
    groups: Sequence[NDArray[np.int64]],
    codes: NDArray[np.int8],
    config: FilterConfig,
) -> None:
    """Of equal files, and of images of a group that look alike, the best one stays. ``groups``: places, best first."""
    usable = order[codes[order] == _OPEN]
    codes[usable[_again(images["sha256"].take(pa.array(usable)))]] = _CODES["duplicate"]
    if not config.near_duplicates:
        return
    for best in groups:
        left = best[codes[best] == _OPEN]
        hashes, looks = (byte_rows(images[name].take(pa.array(left))) for name in ("phash", "look"))
        for alike in near_duplicates(hashes, looks):
            # In a chain of images that change little by little, the ends do not look alike: both may stay.
            kept = spread_out(hashes[alike], looks[alike])
            again = np.ones(len(alike), bool)
            again[kept] = False
            codes[left[np.array(alike)[again]]] = _CODES["near_duplicate"]


def _again(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values have occurred before."""
    # Codes count values as they first appear.
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes <= np.maximum.accumulate(np.concatenate([[-1], codes[:-1]])) if len(codes) else np.zeros(0, bool)


def missing(images: pa.Table, verdict: pa.ChunkedArray, quota: Mapping[Group, int]) -> dict[Group, int]:
    """Accepted images that each group still lacks; groups that lack none are left out."""
    accepted = pc.equal(verdict, ACCEPTED).to_numpy()
    have = {group: int(accepted[rows].sum()) for group, rows in members(images).items()}
    return {group: wanted - have.get(group, 0) for group, wanted in quota.items() if have.get(group, 0) < wanted}


def candidates_needed(missing: int, keep: float) -> int:
    """Images to make so that the best share ``keep`` of them covers what is missing."""
    return math.ceil(missing / keep - 1e-9)


def next_round(images: pa.Table, verdict: pa.ChunkedArray, quota: Mapping[Group, int], keep: float) -> dict[Group, int]:
    """Images to make of each group that lacks some: as many as its share of usable ones so far calls for.

    A group of which nothing was usable, though as many as its quota were made, is given up.
    """
    low = pc.is_in(verdict, pa.array([ACCEPTED, "low_score"])).to_numpy()
    groups, needed = members(images), {}
    for group, lacking in missing(images, verdict, quota).items():
        rows = groups.get(group, np.zeros(0, np.int64))
        usable, made = int(low[rows].sum()), len(rows)
        if not usable and made >= quota[group]:
            continue
        by_share = candidates_needed(quota[group], keep) - made
        by_usable = math.ceil((quota[group] - usable) * made / usable - 1e-9) if usable else MOST_PER_MISSING * lacking
        needed[group] = max(1, min(max(by_share, by_usable), MOST_PER_MISSING * lacking))
    return needed


def rejected(verdict: Sequence[str]) -> dict[str, int]:
    """Rejected images by reason, in the reasons' order."""
    counts = Counter(verdict)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}

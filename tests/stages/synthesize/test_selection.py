"""Which images are accepted: best first, up to share and quota, each rejection with its one reason."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fairsynth.config import FilterConfig
from fairsynth.groups import Group
from fairsynth.stages.synthesize.output import REASONS, members
from fairsynth.stages.synthesize.selection import rejected, scores, verdicts
from tests.support.synthesize.verdicts import A, B, C, accepted, image, images, table, verdicts_of


def test_scores_weigh_text_and_centroid() -> None:
    made = table([image(A, "0", text_score=0.4, centroid_score=0.8), image(A, "1", text_score=1.0, centroid_score=0.0)])
    assert scores(made, 0.25) == pytest.approx([0.7, 0.25])
    assert scores(made, 0.0).tolist() == [0.8, 0.0] and scores(made, 1.0).tolist() == [0.4, 1.0]


def test_the_weight_of_the_text_decides_who_is_best() -> None:
    made = [image(A, "0", text_score=0.4, centroid_score=0.8), image(A, "1", text_score=0.6, centroid_score=0.1)]
    assert accepted(verdicts_of(made, {A: 1}, FilterConfig(text_weight=0.5, keep=1))) == ["0"]
    assert accepted(verdicts_of(made, {A: 1}, FilterConfig(text_weight=0.9, keep=1))) == ["1"]


def test_the_best_are_kept_up_to_share_and_quota() -> None:
    made = images(A, [0.1, 0.9, 0.5, 0.7]) + images(B, [0.2, 0.1, 0.4, 0.3])
    found = verdicts_of(made, {A: 10, B: 1}, FilterConfig(keep=0.75))
    assert accepted(found) == [
        "lb001",
        "lb002",
        "lb003",
        "lf002",
    ]  # three of four, the worst is out; one for a quota of 1
    assert {found[name] for name in ("lb000", "lf000", "lf001", "lf003")} == {"low_score"}


def test_a_group_without_a_quota_gets_nothing() -> None:
    assert set(verdicts_of(images(A, [0.9, 0.8]), {B: 2}).values()) == {"low_score"}
    assert set(verdicts_of(images(A, [0.9, 0.8]), {A: 0}).values()) == {"low_score"}


def test_no_images_have_no_verdicts() -> None:
    assert verdicts_of([], {A: 3}) == {}


def test_ties_go_by_id_and_the_order_of_the_images_changes_nothing() -> None:
    made = images(A, [0.5] * 9) + images(B, [0.1, 0.9, 0.9, 0.1])
    first = verdicts_of(made, {A: 4, B: 3})
    assert accepted(first) == ["lb000", "lb001", "lb002", "lb003", "lf000", "lf001", "lf002"]
    for seed in range(5):
        assert verdicts_of(random.Random(seed).sample(made, len(made)), {A: 4, B: 3}) == first


def test_the_share_is_of_all_that_were_made_and_not_of_the_usable_ones() -> None:
    made = images(A, [0.9, 0.8, 0.1, 0.2])
    made[0]["constant"] = made[1]["constant"] = True
    assert verdicts_of(made, {A: 4}, FilterConfig(keep=0.5)) == {
        "lb000": "constant",
        "lb001": "constant",
        "lb002": "accepted",
        "lb003": "accepted",
    }


FAULTS: dict[str, dict[str, Any]] = {
    "constant": {"constant": True},
    "near_copy": {"copy_score": 0.9501},
    "wrong_label": {"label_probability": 0.49},
    "wrong_attribute": {"attribute_probability": 0.49},
    "duplicate": {"sha256": "same"},
    "near_duplicate": {"phash": b"\x0f" * 8, "look": b"\x80" * 192},
    "low_score": {"text_score": 0.1, "centroid_score": 0.1},
}


@pytest.mark.parametrize("place", range(len(REASONS)))
def test_the_first_reason_that_holds_is_given(place: int) -> None:
    # The best has the file and the looks that the other has too; the quota is of one.
    best = image(A, "best", 0.9, sha256="same", phash=b"\x0f" * 8, look=b"\x80" * 192)
    facts: dict[str, Any] = {}
    for reason in REASONS[place:]:
        facts |= FAULTS[reason]
    found = verdicts_of([image(A, "bad", **facts), best], {A: 1}, threshold=0.95)
    assert found == {"bad": REASONS[place], "best": "accepted"}


@pytest.mark.parametrize("reason", REASONS[:4])
def test_an_image_on_the_safe_side_of_each_limit_is_accepted(reason: str) -> None:
    safe = {"copy_score": 0.95, "label_probability": 0.5, "attribute_probability": 0.5}
    assert verdicts_of([image(A, "0", **safe)], {A: 1}, threshold=0.95) == {"0": "accepted"}
    assert verdicts_of([image(A, "0", **safe | FAULTS[reason])], {A: 1}, threshold=0.95) == {"0": reason}


def test_copies_count_only_with_a_threshold_and_where_they_are_looked_for() -> None:
    made = [image(A, "0", copy_score=1.0), image(A, "1", copy_score=None)]
    off = FilterConfig(keep=1, near_copies=False)
    assert verdicts_of(made, {A: 2}, threshold=None) == {"0": "accepted", "1": "accepted"}
    assert verdicts_of(made, {A: 2}, off, threshold=0.5) == {"0": "accepted", "1": "accepted"}
    assert verdicts_of(made, {A: 2}, threshold=0.5) == {"0": "near_copy", "1": "accepted"}
    # An image of the base model alone is a copy of nothing, whatever the threshold.
    assert verdicts_of(made, {A: 2}, threshold=-0.5) == {"0": "near_copy", "1": "accepted"}


def test_a_probability_of_nothing_rejects_none() -> None:
    made = [image(A, "0", label_probability=0.0, attribute_probability=0.0)]
    assert verdicts_of(made, {A: 1}, FilterConfig(keep=1, min_probability=0.0)) == {"0": "accepted"}
    assert verdicts_of(made, {A: 1}, FilterConfig(keep=1, min_probability=0.01)) == {"0": "wrong_label"}


def test_members_are_the_places_of_each_group() -> None:
    rows = [image(group, str(i)) for i, group in enumerate((B, A, B, C, A, Group("flower", "low"), B))]
    found = members(table(rows))
    assert {group: places.tolist() for group, places in found.items()} == {
        A: [1, 4],
        B: [0, 2, 6],
        C: [3],
        Group("flower", "low"): [5],
    }
    assert members(table([])) == {}


def test_rejections_are_counted_by_reason_in_the_reasons_order() -> None:
    found = rejected(["low_score", "accepted", "constant", "low_score", "duplicate", "", "wrong_label"])
    assert list(found.items()) == [("constant", 1), ("wrong_label", 1), ("duplicate", 1), ("low_score", 2)]
    assert rejected([]) == {}


def test_a_hundred_thousand_images_are_filtered_in_seconds() -> None:
    n, rng = 100_000, np.random.default_rng(0)
    groups = [Group(f"label {i}", f"attribute {j}") for i in range(10) for j in range(10)]
    of = [groups[i] for i in rng.integers(0, len(groups), n)]
    value = rng.random((4, n))
    made = pa.table(
        {
            "image_id": [f"{i:016x}" for i in rng.permutation(n)],
            "label": [group.label for group in of],
            "attribute": [group.attribute for group in of],
            "text_score": value[0],
            "centroid_score": value[1],
            "constant": value[0] < 0.01,
            "label_probability": value[2],
            "attribute_probability": value[3],
            "copy_score": value[1],
            "sha256": [f"{i:064x}" for i in rng.integers(0, 2 * n, n)],
            "phash": pa.array([bytes(row) for row in rng.integers(0, 256, (n, 8), np.uint8)], pa.binary(8)),
            "look": pa.array([bytes(row) for row in rng.integers(0, 256, (n, 192), np.uint8)], pa.binary(192)),
        }
    )
    config = FilterConfig(min_probability=0.05)
    quota = dict.fromkeys(groups, 700)
    started = time.process_time()
    found = verdicts(made, quota, config, 0.999)
    assert time.process_time() - started < 5
    for group, rows in members(made).items():
        of_group = found.take(pa.array(rows))
        kept, low = (pc.sum(pc.equal(of_group, name)).as_py() for name in ("accepted", "low_score"))
        assert kept == min(700, int(0.75 * len(rows)), kept + low), group

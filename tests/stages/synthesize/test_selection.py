"""Which images are accepted: best first, up to share and quota, each rejection with its one reason."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import FilterConfig
from fairsynth.groups import Group
from fairsynth.stages.synthesize.selection import (
    MOST_PER_MISSING,
    REASONS,
    candidates_needed,
    members,
    missing,
    next_round,
    rejected,
    scores,
    verdicts,
)

A, B, C = Group("low", "building"), Group("low", "flower"), Group("high", "flower")
ALL = FilterConfig(keep=1.0)


def image(group: Group, name: str, score: float = 0.5, **facts: Any) -> dict[str, Any]:
    """An image that nothing is wrong with, unlike any other, except for the given facts."""
    rng = random.Random(f"{group}{name}")
    return {
        "image_id": name,
        "label": group.label,
        "attribute": group.attribute,
        "text_score": score,
        "centroid_score": score,
        "constant": False,
        "label_probability": 0.9,
        "attribute_probability": 0.9,
        "copy_score": None,
        "sha256": f"sha {group}{name}",
        "phash": rng.randbytes(8),
        "look": rng.randbytes(192),
    } | facts


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Images as the filter takes them."""
    kinds = {"copy_score": pa.float64(), "constant": pa.bool_(), "phash": pa.binary(8), "look": pa.binary(192)}
    names = list(image(A, ""))
    return pa.table({n: pa.array([row[n] for row in rows], kinds.get(n)) for n in names})


def images(group: Group, values: list[float], **facts: Any) -> list[dict[str, Any]]:
    """Images of a group, with these scores, and ids in order."""
    return [image(group, f"{group.label[0]}{group.attribute[0]}{i:03d}", s, **facts) for i, s in enumerate(values)]


def judged(
    rows: list[dict[str, Any]], quota: dict[Group, int], config: FilterConfig = ALL, threshold: float | None = None
) -> dict[str, str]:
    """The verdict of every image, by its id."""
    found = verdicts(table(rows), quota, config, threshold)
    return dict(zip([row["image_id"] for row in rows], found.to_pylist(), strict=True))


def accepted(found: dict[str, str]) -> list[str]:
    """Ids of the accepted images."""
    return sorted(name for name, verdict in found.items() if verdict == "accepted")


def test_scores_weigh_text_and_centroid() -> None:
    made = table([image(A, "0", text_score=0.4, centroid_score=0.8), image(A, "1", text_score=1.0, centroid_score=0.0)])
    assert scores(made, 0.25) == pytest.approx([0.7, 0.25])
    assert scores(made, 0.0).tolist() == [0.8, 0.0] and scores(made, 1.0).tolist() == [0.4, 1.0]


def test_the_weight_of_the_text_decides_who_is_best() -> None:
    made = [image(A, "0", text_score=0.4, centroid_score=0.8), image(A, "1", text_score=0.6, centroid_score=0.1)]
    assert accepted(judged(made, {A: 1}, FilterConfig(text_weight=0.5, keep=1))) == ["0"]
    assert accepted(judged(made, {A: 1}, FilterConfig(text_weight=0.9, keep=1))) == ["1"]


def test_the_best_are_kept_up_to_share_and_quota() -> None:
    made = images(A, [0.1, 0.9, 0.5, 0.7]) + images(B, [0.2, 0.1, 0.4, 0.3])
    found = judged(made, {A: 10, B: 1}, FilterConfig(keep=0.75))
    assert accepted(found) == [
        "lb001",
        "lb002",
        "lb003",
        "lf002",
    ]  # three of four, the worst is out; one for a quota of 1
    assert {found[name] for name in ("lb000", "lf000", "lf001", "lf003")} == {"low_score"}


def test_a_group_without_a_quota_gets_nothing() -> None:
    assert set(judged(images(A, [0.9, 0.8]), {B: 2}).values()) == {"low_score"}
    assert set(judged(images(A, [0.9, 0.8]), {A: 0}).values()) == {"low_score"}


def test_no_images_have_no_verdicts() -> None:
    assert judged([], {A: 3}) == {}


def test_ties_go_by_id_and_the_order_of_the_images_changes_nothing() -> None:
    made = images(A, [0.5] * 9) + images(B, [0.1, 0.9, 0.9, 0.1])
    first = judged(made, {A: 4, B: 3})
    assert accepted(first) == ["lb000", "lb001", "lb002", "lb003", "lf000", "lf001", "lf002"]
    for seed in range(5):
        assert judged(random.Random(seed).sample(made, len(made)), {A: 4, B: 3}) == first


def test_the_share_is_of_all_that_were_made_and_not_of_the_usable_ones() -> None:
    made = images(A, [0.9, 0.8, 0.1, 0.2])
    made[0]["constant"] = made[1]["constant"] = True
    assert judged(made, {A: 4}, FilterConfig(keep=0.5)) == {
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
    found = judged([image(A, "bad", **facts), best], {A: 1}, threshold=0.95)
    assert found == {"bad": REASONS[place], "best": "accepted"}


@pytest.mark.parametrize("reason", REASONS[:4])
def test_an_image_on_the_safe_side_of_each_limit_is_accepted(reason: str) -> None:
    safe = {"copy_score": 0.95, "label_probability": 0.5, "attribute_probability": 0.5}
    assert judged([image(A, "0", **safe)], {A: 1}, threshold=0.95) == {"0": "accepted"}
    assert judged([image(A, "0", **safe | FAULTS[reason])], {A: 1}, threshold=0.95) == {"0": reason}


def test_copies_count_only_with_a_threshold_and_where_they_are_looked_for() -> None:
    made = [image(A, "0", copy_score=1.0), image(A, "1", copy_score=None)]
    off = FilterConfig(keep=1, near_copies=False)
    assert judged(made, {A: 2}, threshold=None) == {"0": "accepted", "1": "accepted"}
    assert judged(made, {A: 2}, off, threshold=0.5) == {"0": "accepted", "1": "accepted"}
    assert judged(made, {A: 2}, threshold=0.5) == {"0": "near_copy", "1": "accepted"}
    # An image of the base model alone is a copy of nothing, whatever the threshold.
    assert judged(made, {A: 2}, threshold=-0.5) == {"0": "near_copy", "1": "accepted"}


def test_a_probability_of_nothing_rejects_none() -> None:
    made = [image(A, "0", label_probability=0.0, attribute_probability=0.0)]
    assert judged(made, {A: 1}, FilterConfig(keep=1, min_probability=0.0)) == {"0": "accepted"}
    assert judged(made, {A: 1}, FilterConfig(keep=1, min_probability=0.01)) == {"0": "wrong_label"}


def test_of_equal_files_the_best_stays_in_whichever_group() -> None:
    made = [
        image(A, "0", 0.1, sha256="same"),
        image(A, "1", 0.3, sha256="same"),
        image(A, "2", 0.2, sha256="same"),
        image(B, "3", 0.4, sha256="same"),
        image(B, "4", 0.0),
    ]
    assert judged(made, {A: 5, B: 5}) == {**dict.fromkeys("012", "duplicate"), "3": "accepted", "4": "accepted"}
    # Exact duplicates go, even where those that look alike may stay.
    assert accepted(judged(made, {A: 5, B: 5}, FilterConfig(keep=1, near_duplicates=False))) == ["3", "4"]
    # One that is rejected for itself takes nobody's place.
    made[3]["constant"] = True
    assert accepted(judged(made, {A: 5, B: 5})) == ["1", "4"]


def test_of_equal_files_with_equal_scores_the_first_by_id_stays() -> None:
    made = [image(A, name, sha256="same") for name in ("2", "0", "1")]
    assert accepted(judged(made, {A: 3})) == ["0"]


def flipped(value: bytes, *bits: int) -> bytes:
    """A hash with some bits turned round."""
    number = int.from_bytes(value, "big")
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(len(value), "big")


def test_of_images_of_a_group_that_look_alike_the_best_stays() -> None:
    seen = image(A, "0", 0.2)
    near = {"phash": flipped(seen["phash"], 3, 17, 40, 60), "look": bytes(min(255, b + 5) for b in seen["look"])}
    made = [
        seen,
        image(A, "1", 0.4, **near),
        image(A, "2", 0.3, phash=seen["phash"], look=seen["look"]),
        image(B, "3", 0.1, phash=seen["phash"], look=seen["look"]),  # another group's
        image(A, "4", 0.9, phash=seen["phash"]),  # equal hash, other look
        image(A, "5", 0.9, look=seen["look"]),  # equal look, other hash
    ]
    found = judged(made, {A: 9, B: 9})
    assert found == {**dict.fromkeys("1345", "accepted"), "0": "near_duplicate", "2": "near_duplicate"}
    assert set(judged(made, {A: 9, B: 9}, FilterConfig(keep=1, near_duplicates=False)).values()) == {"accepted"}
    # One that is rejected for itself takes nobody's place.
    made[1]["label_probability"] = 0.0
    assert judged(made, {A: 9, B: 9})["2"] == "accepted"


@pytest.mark.parametrize(
    ("by_score", "kept"),
    [
        ("abcd", "ac"),  # b goes for a, d for c: c looks unlike a, and b, which is like it, is gone
        ("dcba", "bd"),
        ("bacd", "bd"),
        ("cadb", "ac"),
        ("adbc", "ad"),
    ],
)
def test_in_a_chain_of_images_that_change_little_by_little_those_that_look_unlike_stay(
    by_score: str, kept: str
) -> None:
    # Neighbours differ by 5 levels and others by 10 or more; up to 6 look alike.
    looks = {name: bytes([80 + 5 * i]) * 192 for i, name in enumerate("abcd")}
    made = [image(A, n, 0.9 - by_score.index(n) / 10, phash=b"\x0f" * 8, look=looks[n]) for n in "abcd"]
    found = judged(made, {A: 4})
    assert "".join(accepted(found)) == kept
    assert {found[name] for name in "abcd" if name not in kept} == {"near_duplicate"}


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two images look alike: hashes within 4 bits, colours within 6 levels on average."""
    bits = (int.from_bytes(one["phash"], "big") ^ int.from_bytes(other["phash"], "big")).bit_count()
    levels = sum(abs(a - b) for a, b in zip(one["look"], other["look"], strict=True)) / len(one["look"])
    return bits <= 4 and levels <= 6


def test_near_duplicates_leave_a_gap_that_the_next_best_fill() -> None:
    twins = {"phash": b"\x0f" * 8, "look": b"\x80" * 192}
    made = [*images(A, [0.9, 0.8], **twins), *images(A, [0.1, 0.2, 0.3])[2:], image(A, "x", 0.2)]
    assert accepted(judged(made, {A: 2})) == ["lb000", "lb002"]


def test_many_equal_looks_are_one_image() -> None:
    # More than are compared pair by pair.
    made = images(A, [i / 100 for i in range(80)], phash=b"\x0f" * 8, look=b"\x80" * 192)
    found = judged(made, {A: 80})
    assert accepted(found) == ["lb079"] and found["lb000"] == "near_duplicate"


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_the_set_of_images_decides_and_not_their_order(data: st.DataObject) -> None:
    draw = data.draw
    few = st.sampled_from((0.2, 0.5, 0.8))
    made = []
    for i in range(draw(st.integers(1, 25))):
        facts: dict[str, Any] = {
            "text_score": draw(few),
            "centroid_score": draw(few),
            "constant": draw(st.integers(0, 9)) == 0,
            "label_probability": draw(few),
            "sha256": draw(st.sampled_from("abcdefghijklmnop")),
            "phash": flipped(b"\x0f" * 8, *draw(st.sets(st.integers(0, 63), max_size=5))),
            "look": bytes([draw(st.sampled_from((80, 85, 90, 200)))]) * 192,
        }
        made.append(image(draw(st.sampled_from((A, B, C))), f"{i:02d}", **facts))
    quota, percent = {A: 3, B: 2, C: 9}, draw(st.sampled_from((30, 75, 100)))
    config = FilterConfig(keep=percent / 100)
    found = judged(made, quota, config)
    assert judged(draw(st.permutations(made)), quota, config) == found
    groups = {group: [row for row in made if (row["label"], row["attribute"]) == group] for group in quota}
    for group, rows in groups.items():
        kept = [row for row in rows if found[row["image_id"]] == "accepted"]
        low = [row for row in rows if found[row["image_id"]] == "low_score"]
        limit = min(quota[group], percent * len(rows) // 100)
        assert len(kept) == min(limit, len(kept) + len(low))
        rank = [(-(row["text_score"] + row["centroid_score"]) / 2, row["image_id"]) for row in (*kept, *low)]
        assert not kept or not low or max(rank[: len(kept)]) < min(rank[len(kept) :])
        # No two that stay look alike, and each that goes is like a better one that stays.
        stays = {name: row for name, row in zip(rank, (*kept, *low), strict=True)}
        assert not any(alike(a, b) for a, b in itertools.combinations(stays.values(), 2))
        for row in rows:
            if found[row["image_id"]] == "near_duplicate":
                mine = (-(row["text_score"] + row["centroid_score"]) / 2, row["image_id"])
                assert any(alike(row, other) for better, other in stays.items() if better < mine)
    usable = [row for row in made if found[row["image_id"]] in ("accepted", "low_score")]
    assert len({row["sha256"] for row in usable}) == len(usable)
    fine = [row for row in made if not row["constant"] and row["label_probability"] >= 0.5]
    assert {row["sha256"] for row in fine} == {
        row["sha256"] for row in made if found[row["image_id"]] in ("accepted", "low_score", "near_duplicate")
    }


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


def test_what_is_missing_is_the_quota_less_what_was_accepted() -> None:
    made = images(A, [0.1, 0.2]) + images(B, [0.5] * 3)
    made[0]["constant"] = True
    quota = {A: 2, B: 3, C: 4}
    assert missing(table(made), verdicts(table(made), quota, ALL, None), quota) == {A: 1, C: 4}
    nothing = table([])
    assert missing(nothing, verdicts(nothing, {}, ALL, None), {A: 0, B: 1}) == {B: 1}


@pytest.mark.parametrize("percent", range(1, 101))
def test_candidates_are_just_enough(percent: int) -> None:
    # In whole numbers: .07 * 100 is above 7 and 100 * .29 below 29 when computed with fractions of two.
    counts = [*range(3000), *range(10**6, 10**6 + 100)]
    assert [candidates_needed(n, percent / 100) for n in counts] == [-(-n * 100 // percent) for n in counts]
    made, config = table(images(B, [0.0] * 100)), FilterConfig(keep=percent / 100)
    for quota, lacking in (({B: percent}, {}), ({B: percent + 1}, {B: 1})):
        assert missing(made, verdicts(made, quota, config, None), quota) == lacking


def after(group: Group, made: int, usable: int, quota: int, keep: float) -> dict[Group, int]:
    """What the next round makes, after one that made so many images, of which so many were usable."""
    rows = images(group, [0.5] * made)
    for row in rows[usable:]:
        row["constant"] = True
    found = verdicts(table(rows), {group: quota}, FilterConfig(keep=keep), None)
    return next_round(table(rows), found, {group: quota}, keep)


@pytest.mark.parametrize(
    ("made", "usable", "quota", "keep", "wanted"),
    [
        (100, 100, 75, 0.75, {}),  # enough by share and in number
        (100, 75, 75, 0.75, {}),
        (100, 70, 75, 0.75, {A: 8}),  # five lack, seven of ten are usable: 7.14
        (100, 50, 75, 0.75, {A: 50}),  # half of them
        (100, 30, 75, 0.75, {A: 150}),  # 45 lack, three of ten are usable
        (100, 25, 75, 0.75, {A: 200}),  # 50 lack, a quarter is usable: just 4 for each
        (100, 20, 75, 0.75, {A: 220}),  # 55 lack, a fifth is usable: 275, but 4 for each at most
        (100, 5, 75, 0.75, {A: 280}),  # 70 lack, a twentieth is usable: 1400
        (100, 1, 75, 0.75, {A: 296}),  # one is enough to go on
        (100, 0, 75, 0.75, {}),  # none of more than the quota: given up
        (75, 0, 75, 0.75, {}),
        (74, 0, 75, 0.75, {A: 300}),  # none of fewer than the quota: 4 for each
        (0, 0, 75, 0.75, {A: 300}),  # nothing was tried yet
        (90, 90, 75, 0.75, {A: 10}),  # all usable, but 67 of 90 are the best three quarters: 100 are to be made
        (90, 60, 75, 0.75, {A: 23}),  # by share 10, by usable ones 22.5
        (99, 99, 75, 0.75, {A: 1}),
        (10, 10, 11, 1.0, {A: 1}),
    ],
)
def test_the_next_round_makes_what_share_and_usable_rate_call_for(
    made: int, usable: int, quota: int, keep: float, wanted: dict[Group, int]
) -> None:
    assert after(A, made, usable, quota, keep) == wanted


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 80), st.sampled_from((30, 75, 100)))
@settings(deadline=None, max_examples=60)
def test_the_next_round_is_bounded_and_covers_what_is_missing(made: int, usable: int, quota: int, percent: int) -> None:
    usable = min(made, usable)
    have = min(quota, percent * made // 100, usable)
    found = after(A, made, usable, quota, percent / 100)
    given_up = usable == 0 and made >= quota
    if have == quota or given_up:
        assert found == {}
        return
    wanted = found[A]
    assert 1 <= wanted <= MOST_PER_MISSING * (quota - have)
    if wanted < MOST_PER_MISSING * (quota - have):
        # With as many usable ones as before, both limits reach the quota.
        assert percent * (made + wanted) // 100 >= quota
        assert usable * (made + wanted) >= quota * made


def test_a_group_that_is_given_up_does_not_stop_the_others() -> None:
    made = images(A, [0.5] * 4) + images(B, [0.5] * 4) + images(C, [0.5] * 4)
    for row in made[:4] + made[8:]:
        row["constant"] = True
    quota = {A: 4, B: 6, C: 5}
    found = verdicts(table(made), quota, ALL, None)
    # Of A four of four are useless; of C as well, but five are wanted; of B two lack.
    assert next_round(table(made), found, quota, 1.0) == {B: 2, C: 20}


def test_a_next_round_is_for_groups_that_lack_images_alone() -> None:
    made = table(images(A, [0.5] * 4) + images(B, [0.5] * 2))
    quota = {A: 4, B: 4}
    assert next_round(made, verdicts(made, quota, ALL, None), quota, 1.0) == {B: 2}


def test_low_scores_do_not_count_against_the_usable_rate() -> None:
    # Ten made, all usable, four kept by share: the other six have low scores only.
    made = table(images(A, [0.5] * 10))
    found = verdicts(made, {A: 5}, FilterConfig(keep=0.4), None)
    assert found.to_pylist().count("accepted") == 4
    assert next_round(made, found, {A: 5}, 0.4) == {A: 3}  # 13 times 0.4 is 5.2; 12 times it 4.8


def test_rejections_are_counted_by_reason_in_the_reasons_order() -> None:
    found = rejected(["low_score", "accepted", "constant", "low_score", "duplicate", "", "wrong_label"])
    assert list(found.items()) == [("constant", 1), ("wrong_label", 1), ("duplicate", 1), ("low_score", 2)]
    assert rejected([]) == {}


def test_a_hundred_thousand_images_are_judged_in_seconds() -> None:
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
        mine = found.take(pa.array(rows))
        kept, low = (pc.sum(pc.equal(mine, name)).as_py() for name in ("accepted", "low_score"))
        assert kept == min(700, int(0.75 * len(rows)), kept + low), group

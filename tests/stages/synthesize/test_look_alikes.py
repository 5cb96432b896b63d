"""Of equal files and of images that look alike the best stays, whatever the order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import FilterConfig
from tests.support.synthesize.verdicts import A, B, C, accepted, image, images, verdicts_of


def test_of_equal_files_the_best_stays_in_whichever_group() -> None:
    made = [
        image(A, "0", 0.1, sha256="same"),
        image(A, "1", 0.3, sha256="same"),
        image(A, "2", 0.2, sha256="same"),
        image(B, "3", 0.4, sha256="same"),
        image(B, "4", 0.0),
    ]
    assert verdicts_of(made, {A: 5, B: 5}) == {**dict.fromkeys("012", "duplicate"), "3": "accepted", "4": "accepted"}
    # Exact duplicates go, even where those that look alike may stay.
    assert accepted(verdicts_of(made, {A: 5, B: 5}, FilterConfig(keep=1, near_duplicates=False))) == ["3", "4"]
    # One that is rejected for itself takes nobody's place.
    made[3]["constant"] = True
    assert accepted(verdicts_of(made, {A: 5, B: 5})) == ["1", "4"]


def test_of_equal_files_with_equal_scores_the_first_by_id_stays() -> None:
    made = [image(A, name, sha256="same") for name in ("2", "0", "1")]
    assert accepted(verdicts_of(made, {A: 3})) == ["0"]


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
    found = verdicts_of(made, {A: 9, B: 9})
    assert found == {**dict.fromkeys("1345", "accepted"), "0": "near_duplicate", "2": "near_duplicate"}
    assert set(verdicts_of(made, {A: 9, B: 9}, FilterConfig(keep=1, near_duplicates=False)).values()) == {"accepted"}
    # One that is rejected for itself takes nobody's place.
    made[1]["label_probability"] = 0.0
    assert verdicts_of(made, {A: 9, B: 9})["2"] == "accepted"


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
    found = verdicts_of(made, {A: 4})
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
    assert accepted(verdicts_of(made, {A: 2})) == ["lb000", "lb002"]


def test_many_equal_looks_are_one_image() -> None:
    # More than are compared pair by pair.
    made = images(A, [i / 100 for i in range(80)], phash=b"\x0f" * 8, look=b"\x80" * 192)
    found = verdicts_of(made, {A: 80})
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
    found = verdicts_of(made, quota, config)
    assert verdicts_of(draw(st.permutations(made)), quota, config) == found
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
                score = (-(row["text_score"] + row["centroid_score"]) / 2, row["image_id"])
                assert any(alike(row, other) for better, other in stays.items() if better < score)
    usable = [row for row in made if found[row["image_id"]] in ("accepted", "low_score")]
    assert len({row["sha256"] for row in usable}) == len(usable)
    fine = [row for row in made if not row["constant"] and row["label_probability"] >= 0.5]
    assert {row["sha256"] for row in fine} == {
        row["sha256"] for row in made if found[row["image_id"]] in ("accepted", "low_score", "near_duplicate")
    }

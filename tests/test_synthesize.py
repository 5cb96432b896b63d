"""Planning, choosing and encoding of synthetic images, as arithmetic."""

from __future__ import annotations

import io
import itertools
import random
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.config import SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.stages import synthesize as stage
from fairsynth.stages.synthesize import Source, candidates_needed, missing, plan_rows, quotas, select, shares

A, B, C = Group("low", "building"), Group("low", "flower"), Group("high", "flower")
SOURCES = {
    A: [Source("low--building--0", 0, "sks low", 30), Source("low--building--1", 1, "ohwx low", 10)],
    B: [Source(None, 0, "low", 1)],
    C: [Source("high--flower--0", 0, "sks high", 7)],
}
CONFIG = SynthesizeConfig(unit_size=4, negative_prompt="blur")


def plan(needed: dict[Group, int], seed: int = 0, round_index: int = 0) -> list[dict]:
    """A plan with the sources above."""
    return plan_rows(needed, SOURCES, CONFIG, seed, round_index)


def images(group: Group, scores: list[float], bad: dict[int, str] | None = None) -> list[dict]:
    """Generated images of a group, with ids in order."""
    return [
        {
            "image_id": f"{group}{i:03d}",
            "label": group.label,
            "attribute": group.attribute,
            "score": s,
            "reason": (bad or {}).get(i, ""),
        }
        for i, s in enumerate(scores)
    ]


def test_quotas_and_shares_by_hand() -> None:
    counts = {A: 40, B: 3, C: 17}
    assert quotas(counts, "largest") == {A: 40, B: 40, C: 40}
    assert quotas(counts, 5) == {A: 5, B: 5, C: 5}
    assert shares(10, [3, 3, 3]) == [4, 3, 3]
    assert shares(7, [30, 10]) == [5, 2]  # 5.25 and 1.75: the larger remainder gets the last one
    assert shares(0, [1, 2]) == [0, 0]
    assert shares(1, [1, 1000]) == [0, 1]


@pytest.mark.parametrize("percent", range(1, 101))
def test_candidates_are_just_enough(percent: int) -> None:
    # In whole numbers: .07 * 100 is above 7 and 100 * .29 below 29 when computed with fractions of two.
    assert [candidates_needed(n, percent / 100) for n in range(3000)] == [-(-n * 100 // percent) for n in range(3000)]
    made = images(B, [0.0] * 100)
    assert missing(made, select(made, {B: percent}, percent / 100), {B: percent}) == {}
    assert percent == 100 or missing(made, select(made, {B: percent + 1}, percent / 100), {B: percent + 1}) == {B: 1}


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**5), min_size=1, max_size=12))
@settings(deadline=None)
def test_shares_add_up_and_are_proportional(total: int, weights: list[int]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total and min(parts) >= 0
    assert all(abs(part - Fraction(total * w, sum(weights))) < 1 for part, w in zip(parts, weights, strict=True))


def test_a_plan_has_what_is_needed_from_each_source() -> None:
    rows = plan({A: 22, B: 5, C: 9})
    made = Counter((row["label"], row["attribute"], row["adapter"], row["cluster"], row["prompt"]) for row in rows)
    assert made == {
        (*A, "low--building--0", 0, "sks low"): 17,  # 16.5 and 5.5: the first of equal remainders
        (*A, "low--building--1", 1, "ohwx low"): 5,
        (*B, None, 0, "low"): 5,
        (*C, "high--flower--0", 0, "sks high"): 9,
    }
    assert {row["negative_prompt"] for row in rows} == {"blur"} and {row["round"] for row in rows} == {0}
    assert pa.Table.from_pylist(rows, schema=stage.plan_schema()).num_rows == 36


def test_ids_and_seeds_are_unique_and_depend_on_their_own_group() -> None:
    rows = plan({A: 22, B: 5, C: 9}) + plan({A: 22, B: 5, C: 9}, round_index=1)
    assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 72
    assert not {row["unit"] for row in rows[:36]} & {row["unit"] for row in rows[36:]}
    assert not {row["seed"] for row in plan({A: 22}, seed=1)} & {row["seed"] for row in rows}
    # A row depends on its own group only, and more rows leave the earlier ones as they are.
    alone = {row["image_id"]: row for row in plan({A: 22})}
    together = {row["image_id"]: row for row in plan({A: 22, B: 500, C: 1}) if (row["label"], row["attribute"]) == A}
    assert alone == together
    fewer = {row["image_id"]: row["seed"] for row in plan({A: 12})}
    assert all(alone[i]["seed"] == seed for i, seed in fewer.items())


def test_a_unit_has_one_adapter_and_its_size_at_most_and_adapters_are_not_mixed() -> None:
    units, rows = defaultdict(list), plan({A: 22, B: 5, C: 9})
    for row in rows:
        units[row["unit"]].append(row)
    assert all(
        len({(row["adapter"], row["prompt"], row["label"], row["attribute"]) for row in unit}) == 1
        for unit in units.values()
    )
    assert sorted(map(len, units.values())) == [1] * 4 + [4] * 8  # 17, 5, 5 and 9 by fours
    assert sum(one["adapter"] != two["adapter"] for one, two in itertools.pairwise(rows)) == 3


def accepted(verdicts: dict[str, str], group: Group) -> list[int]:
    """Numbers of a group's accepted images."""
    return sorted(int(i[-3:]) for i, verdict in verdicts.items() if verdict == "accepted" and i.startswith(str(group)))


def test_the_best_are_kept_up_to_share_and_quota() -> None:
    made = images(A, [0.1, 0.9, 0.5, 0.7]) + images(B, [0.2, 0.1, 0.4, 0.3])
    verdicts = select(made, {A: 10, B: 1}, 0.75)
    assert accepted(verdicts, A) == [1, 2, 3]  # three of four, the worst is out
    assert accepted(verdicts, B) == [2]
    assert verdicts[f"{A}000"] == "low_score" and len(verdicts) == 8


def test_ties_go_by_id_and_the_order_of_the_images_changes_nothing() -> None:
    made = images(A, [0.5] * 9) + images(B, [0.1, 0.9, 0.9, 0.1])
    first = select(made, {A: 4, B: 3}, 1.0)
    assert accepted(first, A) == [0, 1, 2, 3] and accepted(first, B) == [0, 1, 2]
    for seed in range(5):
        assert select(random.Random(seed).sample(made, len(made)), {A: 4, B: 3}, 1.0) == first


def test_images_with_a_reason_are_never_kept_and_leave_a_gap() -> None:
    verdicts = select(images(A, [0.9, 0.8, 0.1, 0.2], {0: "constant", 1: "constant"}), {A: 4}, 0.5)
    assert accepted(verdicts, A) == [2, 3]  # half of all that were made, not of the usable ones
    assert [verdicts[f"{A}{i:03d}"] for i in (0, 1)] == ["constant"] * 2
    made = images(A, [0.1, 0.2], {0: "constant"}) + images(B, [0.5] * 3)
    quota = {A: 2, B: 3, C: 4}
    assert missing(made, select(made, quota, 1.0), quota) == {A: 1, C: 4}
    assert missing([], {}, {A: 0}) == {}


def test_centroids_are_unit_means_of_their_group() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [-1, 0, 0]], np.float32)
    found = stage.centroids([A, A, B, C, C], vectors)
    assert found[A] == pytest.approx(np.array([1, 1, 0]) / np.sqrt(2)) and found[A].dtype == np.float32
    assert found[B] == pytest.approx([0, 0, 1])
    assert found[C] == pytest.approx([0, 0, 0])  # no direction: no nan


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 128, 0)])
def test_an_image_of_one_colour_shows_nothing(colour: tuple[int, int, int]) -> None:
    pixels = np.full((32, 32, 3), colour, np.uint8)
    pixels[::7, ::5] ^= 1  # a little noise
    assert stage.shows_nothing(pixels)
    pixels[:, 16:, 1] ^= 24
    assert not stage.shows_nothing(pixels)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".jpeg", "JPEG"), (".webp", "PNG")])
def test_files_have_the_right_pixels_and_say_that_they_are_synthetic(suffix: str, kind: str) -> None:
    ramp = np.add.outer(np.arange(0, 128, 4), np.arange(0, 128, 4))[..., None].repeat(3, 2).astype(np.uint8)
    image = Image.open(io.BytesIO(stage.encode_file(ramp, suffix)))
    assert image.format == kind
    assert np.abs(np.asarray(image, int) - ramp).max() <= (0 if kind == "PNG" else 6)
    assert "digitalsourcetype/trainedAlgorithmicMedia" in str(image.info.get("XML:com.adobe.xmp") or image.info["xmp"])

"""What each group needs and the row of every image to make: as arithmetic, at full size, and with hostile names."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.shapes import Shape
from fairsynth.groups import Group
from fairsynth.stages.synthesize.image_plan import SCHEMA, SHAPED, ImageShapes, Source, plan_images, quotas, shares
from tests.support.synthesize.plans import SOURCES, A, B, C, of_units, own, plan

HOSTILE = ("a/b", "../..", 'say "no"', "two\nlines", "日本", "'", "", " ", "x" * 300, "a\0", "{label}", "\\")


def test_quotas_by_hand() -> None:
    counts = {A: 40, B: 3, C: 17}
    assert quotas(counts, "largest") == {A: 40, B: 40, C: 40}
    assert quotas(counts, 5) == {A: 5, B: 5, C: 5}
    assert quotas(counts, "largest", fill=True) == {A: 0, B: 37, C: 23}
    assert quotas(counts, 10, fill=True) == {A: 0, B: 7, C: 0}  # never less than nothing
    assert list(quotas(counts, 5)) == [C, A, B]


def test_shares_by_hand() -> None:
    assert shares(10, [3, 3, 3]) == [4, 3, 3]
    assert shares(7, [30, 10]) == [5, 2]  # 5.25 and 1.75: the larger remainder gets the last one
    assert shares(0, [1, 2]) == [0, 0] and shares(0, []) == []
    assert shares(1, [1, 1000]) == [0, 1]
    assert shares(2, [4, 1, 1]) == [2, 0, 0]  # equal remainders of a third: in binary fractions they differ
    # Remainders of 1/3, 1/3, 2/3 and 2/3; then of 1/6, 2/3, 7/12 and 7/12.
    assert shares(200, [2, 8, 1, 1]) == [33, 133, 17, 17] and shares(199, [2, 8, 1, 1]) == [33, 133, 17, 16]


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**5), min_size=1, max_size=12))
@settings(deadline=None)
def test_shares_add_up_and_are_proportional(total: int, weights: list[int]) -> None:
    parts = shares(total, weights)
    exact = [Fraction(total * w, sum(weights)) for w in weights]
    assert sum(parts) == total and min(parts) >= 0
    assert all(abs(part - value) < 1 for part, value in zip(parts, exact, strict=True))
    # Who got one more had a larger remainder than who did not, or an equal one and came first.
    rest = [(value % 1, -i) for i, value in enumerate(exact)]
    more = [rest[i] for i, part in enumerate(parts) if part > exact[i]]
    less = [rest[i] for i, part in enumerate(parts) if part < exact[i]]
    assert not more or not less or min(more) > max(less)


def test_a_plan_has_what_is_needed_from_each_source() -> None:
    rows = plan({A: 22, B: 5, C: 9}, index=3)
    made = Counter((row["label"], row["attribute"], row["adapter"], row["cluster"], row["prompt"]) for row in rows)
    assert made == {
        (*A, "low--building--0", 0, "sks low"): 17,  # 16.5 and 5.5: the first of equal remainders
        (*A, "low--building--1", 1, "ohwx low"): 5,
        (*B, None, 0, "low"): 5,
        (*C, "high--flower--0", 0, "sks high"): 9,
    }
    assert {row["round"] for row in rows} == {3}
    assert {(row["negative_prompt"], row["guidance"]) for row in rows if row["label"] == "low" and row["adapter"]} == {
        ("blur", 6.0)
    }


def test_a_row_says_everything_about_its_source() -> None:
    source = Source("composed", "one", 2, "low in bloom", 5, "high", 4.5, 0.5, "two", 0.25)
    (row,) = plan({B: 1}, sources={B: [source]})
    expected = {
        "label": "low",
        "attribute": "flower",
        "route": "composed",
        "adapter": "one",
        "adapter_scale": 0.5,
        "second_adapter": "two",
        "adapter_from": 0.25,
        "cluster": 2,
        "prompt": "low in bloom",
        "negative_prompt": "high",
        "guidance": 4.5,
        "round": 0,
    }
    assert {name: row[name] for name in expected} == expected
    assert set(row) - set(expected) == {"image_id", "seed", "unit"}


def test_uniform_shares_do_not_look_at_the_weights() -> None:
    rows = plan({A: 23, B: 1}, uniform=True)
    assert Counter(row["adapter"] for row in rows) == {"low--building--0": 12, "low--building--1": 11, None: 1}


def test_a_group_that_owes_images_and_has_no_source_is_refused() -> None:
    with pytest.raises(ValueError, match=r"group \(high, building\) needs 3 images and has no source"):
        plan({A: 2, Group("high", "building"): 3})
    with pytest.raises(ValueError, match="has no source"):
        plan({A: 2}, sources={A: []})
    assert len(plan({A: 2, Group("high", "building"): 0})) == 2


def test_a_plan_of_nothing_is_an_empty_table() -> None:
    for needed in ({}, {A: 0}):
        table = plan_images(needed, SOURCES, 0, 0, 4)
        assert table.num_rows == 0 and table.schema == SCHEMA


def test_a_plan_survives_parquet(tmp_path: Path) -> None:
    table = plan_images({A: 22, B: 5, C: 9}, SOURCES, 0, 0, 4)
    pq.write_table(table, tmp_path / "plan.parquet")
    assert table.schema == SCHEMA and pq.read_table(tmp_path / "plan.parquet").equals(table)


def test_ids_and_seeds_are_unique_and_depend_on_their_own_group() -> None:
    rows = plan({A: 22, B: 5, C: 9}) + plan({A: 22, B: 5, C: 9}, index=1)
    assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 72
    assert not {row["unit"] for row in rows[:36]} & {row["unit"] for row in rows[36:]}
    assert not {row["seed"] for row in plan({A: 22}, seed=1)} & {row["seed"] for row in rows}
    assert all(0 <= row["seed"] < 2**63 for row in rows)
    # A row depends on its own group only, and more rows leave the earlier ones as they are.
    fixed = [name for name in SCHEMA.names if name != "unit"]
    alone = {row["image_id"]: [row[name] for name in fixed] for row in plan({A: 22})}
    crowd = plan({A: 22, B: 500, C: 1}, size=7)
    assert alone == {r["image_id"]: [r[name] for name in fixed] for r in crowd if (r["label"], r["attribute"]) == A}
    fewer = {row["image_id"]: [row[name] for name in fixed] for row in plan({A: 12})}
    assert len(fewer) == 12 and fewer.items() <= alone.items()


def test_trials_have_ids_seeds_and_units_of_their_own() -> None:
    rounds = plan({A: 22, B: 5, C: 9}) + plan({A: 22, B: 5, C: 9}, index=1)
    trials = plan({A: 22, B: 5, C: 9}, trial=True)
    assert [row["round"] for row in trials] == [0] * 36
    for name in ("image_id", "seed", "unit"):
        assert not {row[name] for row in rounds} & {row[name] for row in trials}


def test_groups_that_share_an_adapter_have_ids_and_seeds_of_their_own() -> None:
    lent = SOURCES[C][0]
    other = {B: [replace(lent, route="same-attribute", prompt="low")], C: [lent]}
    same = {B: [lent], C: [lent]}
    for sources in (other, same):
        rows = plan({B: 20, C: 20}, sources=sources)
        assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 40
    # And so have the routes of one group with one adapter.
    routes = [replace(lent, route=route) for route in ("same-label", "same-label-half", "same-label-late")]
    rows = [row for lending in routes for row in plan({B: 20}, sources={B: [lending]})]
    assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 60


def test_hostile_names_stay_apart_and_as_they_are() -> None:
    groups = [Group(label, attribute) for label in HOSTILE for attribute in HOSTILE]
    sources = {group: [Source("prompt", None, 0, f"{group.label} {group.attribute}", 1)] for group in groups}
    rows = plan(dict.fromkeys(groups, 3), sources=sources)
    assert Counter((row["label"], row["attribute"], row["prompt"]) for row in rows) == {
        (*group, f"{group.label} {group.attribute}"): 3 for group in groups
    }
    assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 3 * len(groups)
    assert all(len(unit) == 3 for unit in of_units(rows).values())
    assert {row["unit"].isascii() and "/" not in row["unit"] for row in rows} == {True}


def test_groups_with_the_same_slug_have_ids_and_seeds_of_their_own() -> None:
    one = Group("x", "b/")
    two = Group("x", one.slug.removeprefix("x--"))
    assert one.slug == two.slug and one != two
    rows = plan({one: 30, two: 30}, sources={group: SOURCES[B] for group in (one, two)})
    assert len({row["image_id"] for row in rows}) == len({row["seed"] for row in rows}) == 60
    assert all(len({row["attribute"] for row in unit}) == 1 for unit in of_units(rows).values())


@pytest.mark.slow
def test_a_million_rows_are_planned_in_seconds() -> None:
    groups = [Group(f"label {i}", f"attribute {j}") for i in range(2) for j in range(2)]
    sources = {group: own(group, 50) for group in groups}
    started = time.process_time()
    table = plan_images(dict.fromkeys(groups, 250_000), sources, 0, 0, 16)
    assert time.process_time() - started < 10
    assert table.num_rows == 1_000_000
    assert pc.count_distinct(table["image_id"]).as_py() == pc.count_distinct(table["seed"]).as_py() == 1_000_000
    sizes = pa.table({"unit": table["unit"]}).group_by("unit").aggregate([("unit", "count")])["unit_count"]
    assert len(sizes) == 200 * -(-5000 // 16) and pc.max(sizes).as_py() == 16


TALL, WIDE, SQUARE = Shape(40, 28), Shape(28, 40), Shape(32, 32)


def shapes_of() -> ImageShapes:
    """An adapter that learnt one lying image of four, one that learnt squares, and a group of both without adapters."""
    shapes = dict(zip("abcdefgh", [TALL, TALL, WIDE, TALL, SQUARE, SQUARE, WIDE, SQUARE], strict=True))
    adapters = {"low--building--0": "abcd", "low--building--1": "ef"}
    groups = dict.fromkeys("abcdef", A) | dict.fromkeys("gh", B)
    return ImageShapes(shapes, adapters, groups, 32)


def test_images_have_shapes_in_the_proportion_of_what_their_adapter_or_their_group_has() -> None:
    rows = plan({A: 22, B: 5, C: 3}, shapes=shapes_of())
    made = Counter((row["adapter"], row["height"], row["width"]) for row in rows)
    assert made == {
        ("low--building--0", *TALL): 13,  # 12.75 and 4.25
        ("low--building--0", *WIDE): 4,
        ("low--building--1", *SQUARE): 5,
        (None, *WIDE): 3,  # 2.5 and 2.5: the first of equal remainders
        (None, *SQUARE): 2,
        # An adapter of which nothing is known, and a group without images.
        ("high--flower--0", *SQUARE): 3,
    }
    shared = Source("shared", "shared=", 0, "low", 1)
    assert shapes_of()(A, shared) == {TALL: 3, WIDE: 1, SQUARE: 2}


@pytest.mark.parametrize("size", [4, 64])
def test_a_unit_has_images_of_one_shape_and_all_else_is_as_of_squares(size: int) -> None:
    needed = {A: 22, B: 5, C: 9}
    rows, squares = plan(needed, size=size, shapes=shapes_of()), plan(needed, size=size)
    assert plan_images(needed, SOURCES, 0, 0, size, shapes=shapes_of()).schema == SHAPED
    units = of_units(rows)
    assert all(len({(row["height"], row["width"]) for row in unit}) == 1 for unit in units.values())
    assert max(map(len, units.values())) <= size
    assert [row["unit"] for row in rows] == [name for name, unit in units.items() for _ in unit], "contiguous"
    plain = {row["image_id"]: row for row in squares}
    assert len(rows) == len(plain)
    for row in rows:
        assert {name: row[name] for name in SCHEMA.names if name != "unit"} == {
            name: value for name, value in plain[row["image_id"]].items() if name != "unit"
        }


def test_few_images_of_several_adapters_share_a_unit_if_they_have_one_shape() -> None:
    sources = {A: own(A, 6)}
    adapters = {source.adapter: "ab" if i % 2 else "cd" for i, source in enumerate(sources[A])}
    shapes = ImageShapes({"a": TALL, "b": TALL, "c": WIDE, "d": WIDE}, adapters, {}, 32)
    units = of_units(plan({A: 12}, size=16, sources=sources, shapes=shapes))
    assert sorted(units) == ["r0-stack-00000", "r0-stack-00001"] and {len(unit) for unit in units.values()} == {6}
    assert all(len({row["height"] for row in unit}) == 1 for unit in units.values())

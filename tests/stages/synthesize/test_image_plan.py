"""What each group owes and the row of every image to make: as arithmetic, at full size, and with hostile names."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.groups import Group
from fairsynth.stages.synthesize.image_plan import SCHEMA, STACK_BELOW, Source, plan_images, quotas, shares

A, B, C = Group("low", "building"), Group("low", "flower"), Group("high", "flower")
SOURCES = {
    A: [
        Source("own", "low--building--0", 0, "sks low", 30, "blur", 6.0),
        Source("own", "low--building--1", 1, "ohwx low", 10, "blur", 6.0),
    ],
    B: [Source("prompt", None, 0, "low", 1)],
    C: [Source("own", "high--flower--0", 0, "sks high", 7)],
}
HOSTILE = ("a/b", "../..", 'say "no"', "two\nlines", "日本", "'", "", " ", "x" * 300, "a\0", "{label}", "\\")


def plan(needed: dict[Group, int], seed: int = 0, index: int = 0, size: int = 4, **options: Any) -> list[dict]:
    """The rows of a plan with the sources above, or others."""
    sources = options.pop("sources", SOURCES)
    return plan_images(needed, sources, seed, index, size, **options).to_pylist()


def of_units(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of every unit, in order."""
    units: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        units[row["unit"]].append(row)
    return units


def own(group: Group, count: int, **options: Any) -> list[Source]:
    """Adapters of a group, of equal weight."""
    return [Source("own", f"{group.slug}--{i}", i, f"sks {i}", 1, **options) for i in range(count)]


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
    with pytest.raises(ValueError, match=r"group \(high, building\) owes 3 images and has no source"):
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
    # And so have the ways of one group with one adapter.
    ways = [replace(lent, route=route) for route in ("same-label", "same-label-half", "same-label-late")]
    rows = [row for way in ways for row in plan({B: 20}, sources={B: [way]})]
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


def test_a_unit_has_one_adapter_and_its_size_at_most_and_adapters_are_not_mixed() -> None:
    rows = plan({A: 22, B: 5, C: 9})
    units = of_units(rows)
    assert all(
        len({(row["adapter"], row["prompt"], row["label"], row["attribute"]) for row in unit}) == 1
        for unit in units.values()
    )
    assert sorted(map(len, units.values())) == [1] * 4 + [4] * 8  # 17, 5, 5 and 9 by fours
    assert sum(one["adapter"] != two["adapter"] for one, two in itertools.pairwise(rows)) == 3


def test_the_rows_of_a_unit_stand_together_and_units_come_by_adapter() -> None:
    sources = {A: own(A, 3), B: [*own(B, 3), Source("prompt", None, 0, "low", 1)], C: own(C, 1)}
    rows = plan({A: 30, B: 16, C: 40}, sources=sources, size=5)
    assert len(list(itertools.groupby(rows, lambda row: row["unit"]))) == len(of_units(rows))
    single = [key for key, _ in itertools.groupby(row["adapter"] for row in rows if "-stack-" not in row["unit"])]
    assert single == sorted(single, key=lambda name: name or "") and len(set(single)) == len(single)


def padded(unit: list[dict]) -> int:
    """Images that a batch with stacked adapters has: each adapter's rows are filled up to the most of any."""
    counts = Counter(row["adapter"] for row in unit)
    return len(counts) * max(counts.values())


def test_sources_with_few_rows_share_units_and_others_never_do() -> None:
    # 7, 7, 1 and 1 rows of four adapters; as many as are no longer few of one; the base model's 3.
    few = [replace(s, weight=w) for s, w in zip(own(A, 4), (7, 7, 1, 1), strict=True)]
    sources = {A: few, B: [Source("prompt", None, 0, "low", 1)], C: own(C, 1)}
    rows = plan({A: 16, B: 3, C: STACK_BELOW}, sources=sources, size=16)
    shapes = {
        unit: sorted(Counter(row["adapter"] for row in members).values()) for unit, members in of_units(rows).items()
    }
    assert sorted(shapes[unit] for unit in shapes if "-stack-" in unit) == [[1, 1], [7, 7]]
    assert sorted(shapes[unit] for unit in shapes if "-stack-" not in unit) == [[3], [STACK_BELOW]]


def test_units_that_are_shared_hold_rows_of_several_groups() -> None:
    sources = {group: own(group, 1) for group in (A, B, C)}
    (unit,) = of_units(plan({A: 2, B: 2, C: 1}, sources=sources, size=16)).values()
    assert {(row["label"], row["attribute"]) for row in unit} == {A, B, C} and len(unit) == 5


def test_a_single_source_with_few_rows_has_a_plain_unit() -> None:
    units = of_units(plan({A: 3, B: 3}, sources={A: own(A, 1), B: SOURCES[B]}, size=16))
    assert len(units) == 2 and not any("-stack-" in unit for unit in units)


@pytest.mark.parametrize(
    "change", [{"second_adapter": "other"}, {"adapter_from": 0.5}, {"adapter_scale": 0.5}, {"adapter": None}]
)
def test_only_plain_adapters_are_stacked(change: dict[str, Any]) -> None:
    odd = replace(own(B, 1)[0], **change)
    assert not odd.stackable and own(B, 1)[0].stackable
    units = of_units(plan({A: 4, B: 2}, sources={A: own(A, 2), B: [odd]}, size=16))
    assert sorted(len({row["label"] + row["attribute"] for row in unit}) for unit in units.values()) == [1, 1]
    assert {name for name, unit in units.items() if unit[0]["attribute"] == "building"} == {"r0-stack-00000"}
    assert sum("-stack-" in name for name in units) == 1


def test_nothing_is_stacked_where_that_is_switched_off() -> None:
    units = of_units(plan({A: 4, B: 4}, sources={A: own(A, 2), B: own(B, 2)}, size=16, stack=False))
    assert sorted(len(unit) for unit in units.values()) == [2] * 4 and not any("stack" in unit for unit in units)


def test_an_adapter_that_several_groups_use_counts_once_in_a_shared_unit() -> None:
    # Eight labels borrow one adapter, one image each, and eight adapters have one image each: filled up to the most
    # rows of an adapter, all in one batch would be 9 times 8.
    groups = [Group(f"label {i}", "flower") for i in range(16)]
    sources = {
        g: [replace(SOURCES[C][0], route="same-attribute")] if i < 8 else own(g, 1) for i, g in enumerate(groups)
    }
    units = of_units(plan(dict.fromkeys(groups, 1), sources=sources, size=16))
    assert sum(map(len, units.values())) == 16 and max(map(padded, units.values())) <= 16


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.lists(st.sampled_from(("own", "late", "base", "lent")), min_size=12, max_size=12),
    st.integers(1, 20),
)
@settings(deadline=None, max_examples=200)
def test_any_plan_is_cut_into_units_that_fit(counts: list[int], kinds: list[str], size: int) -> None:
    groups = [Group("x", str(i)) for i in range(len(counts))]
    kind = {
        "own": lambda group: own(group, 1)[0],
        "late": lambda group: own(group, 1, adapter_from=0.5)[0],
        "base": lambda group: SOURCES[B][0],
        "lent": lambda group: SOURCES[C][0],
    }
    sources = {group: [kind[name](group)] for group, name in zip(groups, kinds, strict=False)}
    rows = plan(dict(zip(groups, counts, strict=True)), sources=sources, size=size)
    assert Counter(row["attribute"] for row in rows) == {str(i): n for i, n in enumerate(counts) if n}
    for name, unit in of_units(rows).items():
        assert padded(unit) <= size
        if "-stack-" in name:
            assert all(row["adapter"] and not row["adapter_from"] for row in unit)
            assert max(Counter(row["attribute"] for row in unit).values()) < STACK_BELOW
        else:
            assert len({(row["adapter"], row["attribute"]) for row in unit}) == 1
    few = [i for i, n in enumerate(counts) if 0 < n < STACK_BELOW and n <= size and kinds[i] in ("own", "lent")]
    stacked = {int(row["attribute"]) for row in rows if "-stack-" in row["unit"]}
    assert stacked == (set(few) if len(few) > 1 else set())


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

"""How a plan is cut into units: by adapter, of their size at most, and shared by adapters that have few rows."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.groups import Group
from fairsynth.stages.finetune.output import SHARED
from fairsynth.stages.synthesize.image_plan import STACK_BELOW, Source
from tests.support.synthesize.plans import SOURCES, A, B, C, of_units, own, plan


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
def test_any_plan_is_cut_into_units_that_fit(counts: list[int], made_by: list[str], size: int) -> None:
    groups = [Group("x", str(i)) for i in range(len(counts))]
    source_of = {
        "own": lambda group: own(group, 1)[0],
        "late": lambda group: own(group, 1, adapter_from=0.5)[0],
        "base": lambda group: SOURCES[B][0],
        "lent": lambda group: SOURCES[C][0],
    }
    sources = {group: [source_of[name](group)] for group, name in zip(groups, made_by, strict=False)}
    rows = plan(dict(zip(groups, counts, strict=True)), sources=sources, size=size)
    assert Counter(row["attribute"] for row in rows) == {str(i): n for i, n in enumerate(counts) if n}
    for name, unit in of_units(rows).items():
        assert padded(unit) <= size
        if "-stack-" in name:
            assert all(row["adapter"] and not row["adapter_from"] for row in unit)
            assert max(Counter(row["attribute"] for row in unit).values()) < STACK_BELOW
        else:
            assert len({(row["adapter"], row["attribute"]) for row in unit}) == 1
    few = [i for i, n in enumerate(counts) if 0 < n < STACK_BELOW and n <= size and made_by[i] in ("own", "lent")]
    stacked = {int(row["attribute"]) for row in rows if "-stack-" in row["unit"]}
    assert stacked == (set(few) if len(few) > 1 else set())


def test_the_shared_adapter_has_units_of_its_own_however_few_its_rows() -> None:
    """Its layers are others than those of the clusters' adapters: they cannot share a batch."""
    shared = Source("shared", SHARED, 0, "low", 1)
    rows = plan({A: 6, B: 2, C: 3}, sources={A: own(A, 3), B: [shared], C: [shared]}, size=8)
    of_shared = {row["unit"] for row in rows if row["adapter"] == SHARED}
    assert not of_shared & {row["unit"] for row in rows if row["adapter"] != SHARED}
    assert not any("stack" in unit for unit in of_shared) and any("stack" in row["unit"] for row in rows)

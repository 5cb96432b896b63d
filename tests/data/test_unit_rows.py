"""A plan on disk: each unit reads its own rows, and together they are all rows once."""

from __future__ import annotations

import itertools
import math
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.artifacts import Units
from fairsynth.data.unit_rows import PlanRows, write_plan, write_plans
from fairsynth.work import run_local


def rows(n: int) -> pa.Table:
    """So many rows, with a missing value and text that is no ASCII."""
    return pa.table({"path": [f"日本/{i}\n.png" for i in range(n)], "note": ["", *[None] * (n - 1)][:n]})


@given(n=st.integers(0, 60), unit=st.integers(1, 25), chunks=st.integers(1, 4))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_units_hold_all_rows_once_and_in_order(tmp_path: Path, n: int, unit: int, chunks: int) -> None:
    # The cut does not depend on how the table lies in memory.
    cuts = sorted({0, n, *(n * i // chunks for i in range(chunks))})
    parts = [rows(n).slice(a, b - a) for a, b in itertools.pairwise(cuts)] or [rows(n)]
    names = write_plan(tmp_path / "plan.parquet", pa.concat_tables(parts), unit, "images")
    assert names == sorted(names) and len(names) == math.ceil(n / unit)
    read = [PlanRows(tmp_path / "plan.parquet")(name)["rows"] for name in names]
    assert [row for part in read for row in part] == rows(n).to_pylist()
    assert all(len(part) == unit for part in read[:-1])


def test_names_sort_like_numbers_and_keep_their_prefix(tmp_path: Path) -> None:
    names = write_plan(tmp_path / "plan.parquet", rows(12), 1, "two-words")
    assert names[0] == "two-words-000000" and names[11] == "two-words-000011"
    assert PlanRows(tmp_path / "plan.parquet")(names[11])["rows"] == [rows(12).to_pylist()[11]]


@given(counts=st.lists(st.integers(0, 13), min_size=1, max_size=4), unit=st.integers(1, 6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_several_tables_lie_in_one_file_and_no_unit_has_rows_of_two(
    tmp_path: Path, counts: list[int], unit: int
) -> None:
    parts = {f"part-{i}": rows(100).slice(20 * i, n) for i, n in enumerate(counts)}
    names = write_plans(tmp_path / "plan.parquet", parts, unit)
    read = PlanRows(tmp_path / "plan.parquet")
    for prefix, part in parts.items():
        units = [read(name)["rows"] for name in names if name.startswith(f"{prefix}-")]
        assert [row for unit_rows in units for row in unit_rows] == part.to_pylist()
        assert len(units) == math.ceil(part.num_rows / unit) and all(len(some) <= unit for some in units)
    # The units of one part come after those of the one before, numbered through.
    assert [int(name.rsplit("-", 1)[1]) for name in names] == list(range(len(names)))
    assert names == sorted(names)
    assert pq.read_table(tmp_path / "plan.parquet").equals(pa.concat_tables(parts.values()))


def test_tables_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="schema"):
        write_plans(tmp_path / "plan.parquet", {"a": rows(1), "b": rows(1).drop_columns(["note"])}, 1)


def test_a_reader_of_a_plan_travels_to_other_processes(tmp_path: Path) -> None:
    (name,) = write_plan(tmp_path / "plan.parquet", rows(3), 10, "x")
    reader = pickle.loads(pickle.dumps(PlanRows(tmp_path / "plan.parquet")))
    assert reader(name)["rows"] == rows(3).to_pylist()


@pytest.mark.parametrize("unit", [1, 4, 100])
def test_a_plain_loop_makes_each_unit_once(tmp_path: Path, unit: int) -> None:
    names, units, calls = write_plan(tmp_path / "p.parquet", rows(9), unit, "x"), Units(tmp_path / "units"), []

    def work(task: dict) -> dict[str, pa.Table]:
        calls.append(task["name"])
        return {"out": pa.table({"path": [row["path"] for row in task["rows"]]})}

    run_local(units, names[:2], lambda: work, PlanRows(tmp_path / "p.parquet"))
    run_local(units, names, lambda: work, PlanRows(tmp_path / "p.parquet"))
    assert calls == names and units.done() == set(names)
    made = [path for name in names for path in pq.read_table(units[name] / "out.parquet")["path"].to_pylist()]
    assert made == rows(9)["path"].to_pylist()

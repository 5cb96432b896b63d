"""Counting a table's rows by columns, in a stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.data.metadata import Found
from fairsynth.data.storage import Storage
from fairsynth.data.tables import tally as module
from fairsynth.data.tables.table import read_table
from fairsynth.data.tables.tally import tally

COLUMNS = ("label", "attribute")
VALUES = ["a", "", " b ", "1.0", "NA", "null", "x,y", 'say "x"', "日本", "two\nlines", "=1+1", "-1"]


def by_rows(folder: Path, name: str) -> Counter[tuple[str, ...]]:
    rows = read_table(Storage(str(folder)), name, COLUMNS, Found())
    return Counter(tuple(row[column] for column in COLUMNS) for _, row in rows)


def test_odd_values_of_csv_are_counted_as_they_are_read(tmp_path: Path) -> None:
    quoted = ['"' + value.replace('"', '""') + '"' for value in VALUES]
    lines = ["attribute,other,label", *(f"{a},o,{y}" for a in quoted for y in quoted[:5]), ""]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    found = tally(Storage(str(tmp_path)), "t.csv", COLUMNS)
    assert found == by_rows(tmp_path, "t.csv") and found.total() == 60


@pytest.mark.parametrize(
    "values", [VALUES, [True, False, None], [1.0, 2.5, float("nan")], [1, None, 3], [b"x", b"y", None]], ids=str
)
def test_typed_columns_are_counted_as_they_are_read(tmp_path: Path, values: list[object]) -> None:
    table = pa.table({"label": values * 3, "attribute": ["p", "q", None] * len(values)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    assert tally(Storage(str(tmp_path)), "t.parquet", COLUMNS) == by_rows(tmp_path, "t.parquet")


def test_blocks_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4096)
    lines = ["label,attribute", *(f"{'ab'[i % 2]},{'pqr'[i % 3]}" for i in range(6000))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    found = tally(Storage(str(tmp_path)), "t.csv", COLUMNS)
    assert found == dict.fromkeys([(y, a) for y in "ab" for a in "pqr"], 1000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "label;attribute\na;b\n"),
        ("t.csv", "sep=,\nlabel,attribute\na,b\n"),
        ("t.csv", "label,attribute\na,b,c\n"),
        ("t.csv", "label,atribute\na,b\n"),
        ("t.csv", "label,attribute,label\na,b,c\n"),
        ("t.jsonl", '{"label": "a", "attribute": "b"}\n'),
        ("t.parquet", "no parquet"),
    ],
)
def test_what_is_not_plain_is_left_to_others(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert tally(Storage(str(tmp_path)), name, COLUMNS) is None


def test_ids_are_no_attributes(tmp_path: Path) -> None:
    lines = ["label,attribute", *(f"{i},{i}" for i in range(20_000))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert tally(Storage(str(tmp_path)), "t.csv", COLUMNS) is None

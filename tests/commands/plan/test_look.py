"""Large tables are counted by their columns: the counts are the reader's, and what is not plain goes to the reader."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.commands.plan import kinds
from fairsynth.commands.plan.counts import Counted
from fairsynth.commands.plan.look import look_at
from fairsynth.config.load import load_config
from fairsynth.demo.dataset import build
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.preflight import check_early
from tests.support.calling import call
from tests.support.data.metadata import HEADER
from tests.support.data.planning import waterbirds
from tests.support.datasets import tiny_folder_dataset, write_rows

Rows = Sequence[tuple[str, ...]]
ROWS: Rows = [
    (f"{split}-{y}{a}{i}.png", split, y, a)
    for split, n in (("train", 12), ("val", 3), ("test", 2))
    for y in ("cat", "dog")
    for a in ("in, side", "ou\u0308t")
    for i in range(n)
]


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LARGE_TEXT", 0)
    monkeypatch.setattr(kinds, "LARGE_PARQUET", 0)


def look(root: Path, **data: Any) -> Counted:
    config = load_config(None, "demo", {"data.format": "auto", "data.root": str(root), **data, "cluster.k": 1})
    return look_at(config, root.parent / "out")[0]


def by_reader(root: Path, **data: Any) -> dict[str, Counter[Group]]:
    config = load_config(None, "demo", {"data.format": "auto", "data.root": str(root), **data, "cluster.k": 1})
    metadata = check_early(config, root.parent / "out")
    assert metadata is not None
    splits: dict[str, Counter[Group]] = {split: Counter() for split in ("train", "val", "test")}
    for entry in metadata.entries:
        splits[entry.split][Group(entry.label, entry.attribute)] += 1
    return splits


def streamed(counted: Counted) -> bool:
    return any("counted by its columns" in note for note in counted.notes)


def csv_table(folder: Path, rows: Rows = ROWS, header: tuple[str, ...] = HEADER, name: str = "metadata.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / name, header, rows)
    return folder


def parquet_table(folder: Path, rows: Rows = ROWS, **columns: pa.Array) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True)) | columns)
    pq.write_table(table, folder / "metadata.parquet", row_group_size=7)
    return folder


def test_counts_are_the_readers(tmp_path: Path) -> None:
    numbers = pa.array([float(i % 2) for i in range(len(ROWS))])
    folders = {
        "csv": csv_table(tmp_path / "csv"),
        "words": csv_table(tmp_path / "words", [(f, {"val": "Validation"}.get(s, s), y, a) for f, s, y, a in ROWS]),
        "columns": csv_table(tmp_path / "columns", header=("File Name", "Split", "LABEL", "attribute")),
        "parquet": parquet_table(tmp_path / "parquet"),
        "numbers": parquet_table(tmp_path / "numbers", label=numbers),
        "birds": waterbirds(tmp_path / "birds"),
    }
    for name, root in folders.items():
        counted = look(root)
        assert streamed(counted), name
        assert counted.splits == by_reader(root), name
        assert counted.named == counted.used


def test_a_table_in_each_split(tmp_path: Path) -> None:
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        csv_table(
            tmp_path / "set" / name,
            [(f, y, a) for f, s, y, a in ROWS if s == split],
            ("file_name", "label", "attribute"),
        )
    counted = look(tmp_path / "set")
    assert streamed(counted) and counted.splits == by_reader(tmp_path / "set")


def test_a_hidden_attribute_is_not_counted(tmp_path: Path) -> None:
    root = csv_table(tmp_path / "set")
    counted = look(root, **{"data.attribute": "discover"})
    assert streamed(counted) and counted.splits["train"] == {Group("cat", ""): 24, Group("dog", ""): 24}


@pytest.mark.slow  # building it takes seconds
def test_the_demos_metadata(tmp_path: Path) -> None:
    images = build()
    root = csv_table(tmp_path / "demo", [(i.file_name, i.split, i.label, i.attribute) for i in images])
    counted = look(root)
    assert streamed(counted) and counted.splits == by_reader(root) and counted.used == len(images)


@pytest.mark.parametrize(
    "change",
    [
        {"data.split_fractions": [0.5, 0.25, 0.25], "data.split_column": ""},
        {"data.missing_files": "leave_out"},
        {"data.severity": "90%", "data.aligned": {"cat": "in, side", "dog": "o\u00fct"}},
        {"data.split_names": {"test": "drop"}, "data.split_from": {"test": "val"}},
    ],
)
def test_what_goes_by_single_files_is_left_to_the_reader(tmp_path: Path, change: dict[str, Any]) -> None:
    root = csv_table(tmp_path / "set")
    for name, *_ in ROWS:
        (root / name).touch()
    counted = look(root, **change)
    assert not streamed(counted) and counted.used > 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("x.png", "train", "", "in, side"), "empty label"),
        (("x.png", "holdout", "cat", "in, side"), "split is 'holdout'"),
        (("x.png", "train", "cat"), "fewer values than columns"),
    ],
)
def test_refusals_are_the_readers(tmp_path: Path, row: tuple[str, ...], said: str) -> None:
    root = csv_table(tmp_path / "set", [*ROWS, row])
    with pytest.raises(DataError, match=said) as by_plan:
        look(root)
    with pytest.raises(DataError) as by_run:
        by_reader(root)
    assert str(by_plan.value) == str(by_run.value)


def test_other_separators_are_left_to_the_reader(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    lines = [";".join(row) for row in (HEADER, *ROWS)]
    (root / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    counted = look(root)
    assert not streamed(counted) and counted.used == len(ROWS)


def test_a_table_that_names_no_files_is_refused(tmp_path: Path) -> None:
    root = csv_table(tmp_path / "set", header=("picture", "split", "label", "attribute"))
    with pytest.raises(DataError, match="file_name"):
        look(root, **{"data.format": "folder"})


def test_what_is_finished_is_found_for_large_tables_too(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "set")
    words = ["--preset", "demo", "--data.format", "folder", "--data.root", str(root), "--out", str(tmp_path / "out")]
    words += ["--cluster.k", "1", "--data.max_bad_fraction", "1"]
    assert call("ingest", *words)[0] == 0
    code, text, err = call("plan", *words, "--json")
    assert code == 0, err
    assert json.loads(text)["stages"][0]["finished"]

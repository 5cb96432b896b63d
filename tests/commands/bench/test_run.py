"""Cells that their data end: the others go on, the table is written, and the exit code tells."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import small_arguments
from tests.support.calling import call, called
from tests.support.datasets import tiny_folder_dataset

# At 80 % fifteen images of each label would have to go against it; at 95 % four.
COUNTS = {"train": (60, 5, 5, 60), "val": (2, 2, 2, 2), "test": (2, 2, 2, 2)}
NO_IMAGE = dict.fromkeys(range(40), b"no image")
REAL = ["--bench.methods", "[erm]"]


def bench(out: Path, datasets: dict[str, Path], *more: str) -> tuple[int, str, str]:
    settings = {name: {"data.root": str(root)} for name, root in datasets.items()}
    return call("bench", "--preset", "demo", "--out", out, "--bench.datasets", json.dumps(settings), *REAL, *more)


def test_cells_without_usable_data_are_noted_and_the_others_go_on(tmp_path: Path) -> None:
    broken = {name: tiny_folder_dataset(tmp_path / name, COUNTS, changed=NO_IMAGE) for name in ("a|b", "c")}
    code, out, errors = bench(tmp_path / "out", broken, "--bench.severities", "[80%, 95%]")
    assert code == 3 and "4 of 4 cells failed for a reason of their data" in errors and errors.count("\n") == 1
    # Known from the metadata, and once the files have been read.
    assert "choose a higher severity" in out and "40 of 144 images cannot be used" in out
    assert "[3/4] a|b, 95 %, real images: erm" in out
    table = (tmp_path / "out" / "bench" / "table.md").read_text()
    assert table in out and r"| a\|b | failed |" in table and table.count("| failed: ") == 4
    lines = list(csv.DictReader((tmp_path / "out" / "bench" / "table.csv").open()))
    assert [(line["dataset"], line["severity"], line["repetitions"]) for line in lines] == [
        (dataset, severity, "0") for severity in ("80 %", "95 %") for dataset in ("a|b", "c")
    ]


def test_a_dataset_that_no_cell_can_use_ends_the_bench_at_once(tmp_path: Path) -> None:
    good = tiny_folder_dataset(tmp_path / "good", COUNTS)
    code, _, errors = bench(tmp_path / "out", {"good": good, "gone": tmp_path / "gone"})
    assert code == 3 and "dataset 'gone': " in errors and not (tmp_path / "out").exists()


def test_a_fault_of_the_storage_ends_the_bench(tmp_path: Path) -> None:
    data = {name: tiny_folder_dataset(tmp_path / name, COUNTS, changed=NO_IMAGE) for name in "abc"}
    image = data["b"] / "train" / "0000.png"
    image.unlink()
    image.symlink_to("/proc/self/mem")  # a regular file that gives an input/output error
    code, out, errors = bench(tmp_path / "out", data, "--data.follow_links", "true")
    assert code == 5 and "input/output error" in errors and "the same command goes on" in errors
    # What was known before stays in the table.
    assert "[2/3] b, original" in out and "[3/3]" not in out
    assert "| a | original | 0 | ERM | failed: " in (tmp_path / "out" / "bench" / "table.md").read_text()


def test_datasets_whose_files_look_the_same_are_not_taken_for_each_other(tmp_path: Path) -> None:
    a = tiny_folder_dataset(tmp_path / "a", COUNTS, changed=NO_IMAGE)
    b = tmp_path / "b"
    shutil.copytree(a, b)  # with the times of the files
    code, _, errors = bench(tmp_path / "out", {"a": a, "b": b})
    assert code == 3 and "datasets 'a' and 'b' cannot be told apart" in errors
    assert not (tmp_path / "out" / "stages").exists()
    # One folder under two names, or other times, are no mistake.
    assert "cannot be told apart" not in bench(tmp_path / "two", {"a": a, "b": a})[2]
    os.utime(b / "train" / "0000.png")
    assert "2 of 2 cells failed" in bench(tmp_path / "other", {"a": a, "b": b})[2]


@pytest.mark.slow
def test_a_failure_in_a_worker_leaves_the_other_datasets_cells(tmp_path: Path) -> None:
    # With one validation image of each group DFR has none to judge by, as its training finds out.
    lean = tiny_folder_dataset(tmp_path / "lean", COUNTS | {"val": (1,) * 4}, side=32)
    full = tiny_folder_dataset(tmp_path / "full", COUNTS | {"val": (6,) * 4}, side=24)
    settings = json.dumps({root.name: {"data.root": str(root)} for root in (lean, full)})
    more = ["--bench.datasets", settings, "--bench.methods", "[erm, dfr]", "--bench.severities", "[95%]"]
    result = called("bench", *small_arguments(tmp_path / "out"), *more)
    assert result.returncode == 3 and "1 of 2 cells failed" in result.stderr, result.stderr
    facts = json.loads((tmp_path / "out" / "bench" / "bench.json").read_text())
    found = {(row["dataset"], row["method"]): row for row in facts["rows"]}
    assert "DFR cannot refit its linear layer" in found["lean", "dfr"]["failed"][0]["reason"]
    assert found["lean", "erm"]["figures"] == {} and found["full", "erm"]["failed"] == []
    assert len(found["full", "dfr"]["figures"]["worst_group_accuracy"]["values"][0]) == 2
    # Each dataset has its own images.
    manifests = (tmp_path / "out" / "stages").glob("ingest-*/manifest.parquet")
    read = {frozenset(pq.read_table(path)["sha256"].to_pylist()) for path in manifests}
    files = [{hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.png")} for root in (lean, full)]
    assert len(read) == 2 and all(any(images <= known for images in read) for known in files)

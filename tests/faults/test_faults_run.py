"""Faults around a run: odd and read-only output folders, clocks that jump, floods of text, names of columns that clash.

Those of processes, disks and clusters are where what they strike is tested; CASES.md lists them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Artifact
from fairsynth.commands.run.running import carry_out, checked
from fairsynth.config.load import load_config
from fairsynth.console import complain, guarded
from fairsynth.engine.failures import packed, unpacked
from fairsynth.errors import ConfigError
from fairsynth.escaping import enumerated, printable
from fairsynth.exports.formats import MARKS
from fairsynth.pipeline import _tell
from fairsynth.stages.stage import Done
from fairsynth.watching import log
from tests.conftest import small_arguments
from tests.support.calling import call, called
from tests.support.comparing import essence, stage_folder
from tests.support.datasets import picture, tiny_folder_dataset, write_rows
from tests.support.faults.disks import small_disk
from tests.support.ingesting import ingested, inspected

DAY = 86_400.0


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
def test_case_60_a_clock_that_jumps_changes_no_name_and_no_row(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real = tiny_folder_dataset(tmp_path / "data"), time.time
    steady = ingested(root, tmp_path / "steady")
    calls = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + jump * (next(calls) % 3))
    jumping = ingested(root, tmp_path / "jumping")
    assert jumping.folder.name == steady.folder.name and jumping.manifest.rows() == steady.manifest.rows()
    # Another day before the first one it is finished all the same.
    monkeypatch.setattr(time, "time", lambda: real() - 2 * DAY)
    again = ingested(root, tmp_path / "jumping")
    assert again.record == jumping.record and again.record["startup_seconds"] >= 0 and again.record["seconds"] >= 0


def test_case_67_an_error_text_of_megabytes_is_short_wherever_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flood = "begin " + "\x1b[31mnoise\n" * 1_000_000

    def work() -> int:
        with log.logged(tmp_path):
            raise unpacked("embed", packed(RuntimeError(flood), "images-000000"))

    assert guarded(work) == 5
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and len(line) < 2100 and printable(line[:-1]) == line[:-1]
    sizes = {path.name: path.stat().st_size for path in (tmp_path / log.FOLDER).iterdir()}
    assert sizes.keys() == {log.LOG, log.FAILURES} and sum(sizes.values()) < 500_000
    assert all(len(str(value)) < 21_000 for line in log.read(tmp_path) for value in line.values())


def test_case_67_a_flood_of_notes_is_shown_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"note {number}: " + "x" * 100_000 for number in range(200)]
    complain(enumerated(lines, "; "))
    assert len(capsys.readouterr().err) < 2100
    artifact = SimpleNamespace(path=Path("stages/ingest-0"), record={"seconds": 1.0})
    said: list[str] = []
    _tell(said.append, "ingest", Done(cast(Artifact, artifact), "ended", True, tuple(lines)), 1.0)
    assert len(said) == 22 and "180 more notes" in said[-1]


ODD = "Büro 猫 'x' \"y\" %41 #1 $HOME (a) -- ö"


@pytest.mark.slow
def test_case_68_an_output_folder_may_have_any_name(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / ODD / "out"
    shutil.copytree(finished_run, out)
    for stage in ("embed", "report"):
        shutil.rmtree(stage_folder(out, stage))
    result = called("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    expected, found = essence(finished_run), essence(out)
    for part in expected:
        assert found[part] == expected[part], part
    names = [path.name for path in tmp_path.iterdir()]
    assert names == [ODD] and str(out) in result.stdout


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1000) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        yield disk.path


def test_case_68_a_read_only_output_folder_is_a_usage_error_before_any_work(read_only: Path) -> None:
    config = load_config(None, "demo", {"out": str(read_only / "out"), "resources.disk_margin": 0})
    with pytest.raises(ConfigError, match=r"cannot write to the output folder .*: Read-only file system; .*--out"):
        carry_out(checked(config), None, lambda text: None)
    code, _, said = call("run", "--preset", "demo", "--out", read_only / "out", "--resources.disk_margin", "0")
    assert code == 2 and said.count("\n") == 1 and "with --out" in said


# What fairsynth's own tables call things, and a run of the words it reads by default.
CLASHES = ("label", "attribute", *MARKS, "image_id", "prompt", "group")


def test_case_70_columns_that_are_called_like_ours_stay_the_users(tmp_path: Path) -> None:
    root = tmp_path / "data"
    header = ("file_name", "split", "kind", "place", *CLASHES)
    rows = []
    for number in range(48):
        split, y, a = ("train", "val", "test")[number % 3], number // 3 % 2, number // 6 % 2
        name = f"{split}/{number:04d}.png"
        (root / split).mkdir(parents=True, exist_ok=True)
        picture(y, a, number).save(root / name)
        rows.append((name, split, ("cat", "dog")[y], ("indoor", "outdoor")[a], *(f"theirs {number}",) * len(CLASHES)))
    write_rows(root / "metadata.csv", header, rows)
    chosen = {"label_column": "kind", "attribute_column": "place"}
    found = ingested(root, tmp_path / "out", **chosen)
    groups = {(row["label"], row["attribute"]) for row in found.manifest.rows()}
    assert groups == {(y, a) for y in ("cat", "dog") for a in ("indoor", "outdoor")} and len(found.manifest) == 48
    table = pq.read_table(found.folder / "manifest.parquet")
    assert len(set(table.column_names)) == len(table.column_names) and "theirs" not in str(table.to_pylist())
    assert inspected(root, **chosen)["problems"] == []

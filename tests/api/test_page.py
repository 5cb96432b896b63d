"""The code of docs/python.md, beside a finished run in runs/demo, does what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fairsynth as fs
from tests.support.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "python.md"
STARTING = "run = fs.run("  # these two take minutes; test_running.py does what they do


def test_the_page_runs_and_opens_and_uses_what_is_public() -> None:
    code = [block.code for block in blocks(PAGE.read_text("utf-8")) if block.language == "python"]
    assert [block.startswith(STARTING) for block in code].count(True) == 2
    assert sum("fs.open_run(" in block for block in code) == 1 and code[0] == "import fairsynth as fs\n"


def test_the_pages_table_of_errors_is_the_error_tree() -> None:
    rows = [
        line.split("|")[1:3]
        for line in PAGE.read_text("utf-8").split("\n")
        if line.startswith("| `") and "Error" in line
    ]
    told = {name.strip(" `"): int(code) for name, code in rows}
    assert told == {name: getattr(fs, name).exit_code for name in told} and len(told) == 4


@pytest.mark.slow
def test_its_code_works(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(finished_run)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(PAGE.read_text("utf-8")):
        if block.language == "python" and not block.code.startswith(STARTING):
            exec(block.code, names)
    told = capsys.readouterr().out
    assert "worst-group accuracy" in told and told.rstrip().endswith(
        "unknown key 'cluster.kk' (did you mean 'cluster.k'?)"
    )
    assert (tmp_path / "rare.png").is_file() and names["label"] == 0 and names["theirs"].num_rows == len(names["rare"])
    assert {*names["labels"]} <= {*names["classifier"].labels} and len(names["accuracies"]) == 12

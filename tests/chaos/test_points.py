"""Wherever a process dies around a commit, the next one leaves what an undisturbed one leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.structure import ROOT

# A stage's work as it must not be: the name is there before all of the content.
# Fault case 54: a writer dies around a commit.
IN_PLACE = """
import os
from pathlib import Path
from tests.chaos.points import Scene, files_below, tried

root = Path({root!r})
path = root / "rows.txt"

def work():
    root.mkdir(exist_ok=True)
    if not path.exists():
        with path.open("w") as file:
            file.write("half")
            file.flush()
            os.fsync(file.fileno())
            file.write(" and half")

scene = Scene("in place", root, work, lambda: files_below(root), lambda: path.unlink(missing_ok=True))
print(len(tried(scene, Path({folder!r}), 100, 0)["wrong"]))
"""


@pytest.mark.slow
def test_death_at_any_commit_changes_nothing(finished_run: Path) -> None:
    # A process of its own: children are forked, and this one has threads.
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.points", str(finished_run), "--most", "4"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert {name: scene["wrong"] for name, scene in found.items()} == {name: [] for name in found}
    least = {"units, record and view": 40, "checkpoints": 12, "cluster": 4, "report": 4}
    assert found.keys() == least.keys() and all(found[name]["tried"] >= n for name, n in least.items())


@pytest.mark.slow
def test_a_file_that_is_written_in_place_is_found(tmp_path: Path) -> None:
    code = IN_PLACE.format(root=str(tmp_path / "root"), folder=str(tmp_path / "journal"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )
    assert done.stdout.split() == ["2"], done.stderr[-3000:]  # just before fsync and just after it

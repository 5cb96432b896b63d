"""Units where workers have a GPU each: they are made there, and what is prepared for them is made elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Units
from tests.support.drive_units import NAMES
from tests.support.structure import ROOT

pytestmark = pytest.mark.slow


def told(units: Units) -> list[dict[str, Any]]:
    return [pq.read_table(units[name] / "told.parquet").to_pylist()[0] for name in sorted(units.done())]


def test_units_are_made_on_gpus_and_prepared_elsewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.drive_units", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, prepared = Units(tmp_path / "alone"), Units(tmp_path / "prepared")
    assert alone.done() == prepared.done() == {*NAMES}
    rows = told(prepared)
    assert {row["gpu"] for row in (*told(alone), *rows)} == {"0"}
    assert [row["sum"] for row in rows] == [6 * int(name) for name in NAMES]
    # Else the model would wait for what is decoded.
    assert {row["by"] for row in rows}.isdisjoint({row["worker"] for row in rows})

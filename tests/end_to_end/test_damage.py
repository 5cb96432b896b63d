"""What rots after it was committed is noticed where it is read, made anew, and told; the run ends like one that never was damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import small_arguments
from tests.support.calling import called
from tests.support.comparing import essence, stage_folder


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# Fault case 62: a bit of a committed unit, and one of a stage's table.
def test_what_is_damaged_is_made_anew_and_told(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    clusters = stage_folder(out, "cluster") / "clusters.parquet"
    unit = sorted((stage_folder(out, "synthesize") / "units").iterdir())[0]
    before = {path: path.read_bytes() for path in (clusters, unit / "images.parquet")}
    for path in before:
        _flip(path)
    # What reads them is to be made.
    for stage in ("audit", "report"):
        shutil.rmtree(stage_folder(out, stage))
    result = called("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    told = [line for line in result.stdout.splitlines() if "its stage makes it anew" in line]
    assert (
        len(told) == 2
        and any(clusters.parent.name in line for line in told)
        and any(unit.name in line for line in told)
    )
    assert {path: path.read_bytes() for path in before} == before
    assert essence(out) == essence(finished_run)

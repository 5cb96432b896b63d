"""Ten million rows, planned from metadata alone: seconds of the processor, and memory, with a limit on it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tests.support.data.planning import environment, exact, set_traps, stage

ROWS, CHUNK, BYTES = 10_000_000, 100_000, 1_000_000_000
# Processor time: others may use the machine as well. Not ru_maxrss: that begins with the size of whoever started this.
COST = """
import re, sys, time
from pathlib import Path
from fairsynth.cli import main
code = main(sys.argv[1:])
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(time.process_time(), peak, file=sys.stderr)
sys.exit(code)
"""


def write(folder: Path, kind: str) -> Path:
    """Seven in ten images are for training; one in twenty goes against its label."""
    folder.mkdir()
    i = np.arange(CHUNK)
    split = np.array(["train"] * 7 + ["val", "test", "test"])[i % 10]
    label = i // 10 % 2
    attribute = np.where(i // 20 % 20 == 0, 1 - label, label)
    chunk = pa.table(
        {
            "file_name": [f"images/{n // 1000:05d}/{n:08d}.jpg" for n in i],
            "split": split,
            "label": np.array(["cat", "dog"])[label],
            "attribute": np.array(["indoor", "outdoor"])[attribute],
        }
    )
    path = folder / f"metadata.{kind}"
    writer = pa_csv.CSVWriter(path, chunk.schema) if kind == "csv" else pq.ParquetWriter(path, chunk.schema)
    with writer:
        for _ in range(ROWS // CHUNK):
            writer.write_table(chunk)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says the peak")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ten_million_rows(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "set", kind)
    words = ["plan", "--preset", "waterbirds", "--data.format", "folder", "--data.root", str(root), "--json"]
    words += ["--out", str(tmp_path / "out"), "--synthesize.per_group", "5000"]
    result = subprocess.run(
        [sys.executable, "-c", COST, *words],
        env=environment(set_traps(tmp_path / "traps")),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    plan, (seconds, peak) = json.loads(result.stdout), map(float, result.stderr.split()[-2:])
    assert plan["dataset"]["images"] == ROWS and plan["dataset"]["exact"]
    # 7,000,000 / 128 and 1,000,000 / 128, each rounded up.
    assert stage(plan, "embed")["units"] == exact(54_688 + 7813)
    assert {(g["label"], g["attribute"]): g["real"] for g in plan["groups"]} == {
        ("cat", "indoor"): 3_325_000,
        ("cat", "outdoor"): 175_000,
        ("dog", "indoor"): 175_000,
        ("dog", "outdoor"): 3_325_000,
    }
    assert peak < 1000 and seconds < 5

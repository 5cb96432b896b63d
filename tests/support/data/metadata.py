"""The metadata of small datasets, written and read back, and what loading costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fairsynth.data.metadata import Entry
from fairsynth.errors import DataError
from tests.support.data.dataset_files import load
from tests.support.datasets import write_rows

HEADER = ("file_name", "split", "label", "attribute")
GROUPS = [(y, a) for y in "xy" for a in "pq"]
Rows = Sequence[tuple[str, ...]]
ROWS: Rows = [(f"{split}-{y}{a}.png", split, y, a) for split in ("train", "val", "test") for y, a in GROUPS]
BIRDS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def entries(path: Path, rows: Rows, header: tuple[str, ...] = HEADER, **options: Any) -> list[Entry]:
    """Write a folder dataset's metadata and read it back as the pipeline does."""
    write_rows(path / "metadata.csv", header, rows)
    return load(path, **options).entries


def refusal(path: Path, rows: Rows, header: tuple[str, ...] = HEADER, **options: Any) -> str:
    """The message with which the metadata is refused."""
    with pytest.raises(DataError) as caught:
        entries(path, rows, header, **options)
    return str(caught.value)


ODD = ["NA", "None", "nan", "NaN", "01", "1.5", "1e3", "true", "null", "a,b", 'say "x"', "it's", "two\nlines", "cr\rlf\r\n", "=1+1",
    "-1", "日本", "caf\u00e9", " x ", "<img src=x>", "0", "a/b", "a\\b", "../x", "N/A", "\ufeffx", "x\u2028y", "😀"]  # fmt: skip
BIG = """
import re, sys, time
from pathlib import Path
from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.storage import Storage
start = time.process_time()  # others may use the machine as well
config = DataConfig(root=sys.argv[1])
metadata = dataset.load(config, Storage(config.root))
seconds = time.process_time() - start
# Not ru_maxrss: that begins with the size of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(len(metadata.entries), seconds, peak)
"""


def cost_of_loading(root: Path) -> tuple[int, float, float]:
    """Entries, seconds and peak MB of loading a dataset in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", BIG, str(root)], capture_output=True, text=True, check=True, timeout=120
    )
    n, seconds, peak = result.stdout.split()
    return int(n), float(seconds), float(peak)

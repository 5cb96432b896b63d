"""Many small requests at once: in the order in which they were asked for, and the same as one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairsynth.store.pool import stamps


@pytest.mark.parametrize("slow_seconds", [0.0, 1000.0])
def test_stamps_by_many_threads_are_those_of_one(slow_seconds: float, tmp_path: Path) -> None:
    names = [f"{i % 3}/{i:04d}.png" for i in range(1300)]
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if i % 5:
            (tmp_path / name).write_bytes(bytes(i % 17))
            os.utime(tmp_path / name, ns=(i, i))
    asked = {*names, "nul\0.png", "no/no.png", "0"}
    found = stamps(f"{tmp_path}", asked, slow_seconds)
    folder = os.stat(tmp_path / "0")
    assert found == {name: (i % 17, i) if i % 5 else None for i, name in enumerate(names)} | {
        "nul\0.png": None,
        "no/no.png": None,
        "0": (folder.st_size, folder.st_mtime_ns),
    }
    assert stamps(f"{tmp_path}", (), slow_seconds) == {}

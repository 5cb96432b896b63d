"""Without a server a worker starts as Ray starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairsynth.engine.forks import worker


@pytest.mark.parametrize("address", [None, "gone", "silent"])
def test_a_worker_starts_as_always(address: str | None, tmp_path: Path) -> None:
    (tmp_path / "setup_worker.py").write_text("import sys; print(*sys.argv[1:])", "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != worker.ADDRESS}
    if address:
        environment[worker.ADDRESS] = str(tmp_path / address)
    (tmp_path / "silent").write_text("no socket", "utf-8")
    words = ["-s", str(tmp_path / "default_worker.py"), "--node-id=1"]
    done = subprocess.run(
        [sys.executable, worker.__file__, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == words and done.stderr == ""

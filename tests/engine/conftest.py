"""A place for the files of a local Ray of a test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def ray_tmp() -> Iterator[Path]:
    """An empty folder for RAY_TMPDIR: the paths of pytest's own are too long for Ray's sockets on some machines."""
    with tempfile.TemporaryDirectory(prefix="fs", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)

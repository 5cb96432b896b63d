"""The record that makes an artifact exist: written last, once, on a disk or in a bucket."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairsynth.errors import TakenOverError
from fairsynth.store.mirror import place_of, sent
from fairsynth.store.pool import each


def exists(path: Path) -> bool:
    """Whether the record is there; of a bucket's it is brought here, for it never changes."""
    place = place_of(path)
    return path.exists() if place is None else place[0].fetch(place[1])


def create(path: Path, files: Sequence[Path], content: Mapping[str, Any]) -> None:
    """Write the record, after ``files``: these are in the bucket before, if the output is one."""
    if place := place_of(path):
        each(sent, files)
        place[0].check()
    write_json(path, content)
    if place:
        mirror, key = place
        if not mirror.objects.create(key, path.read_bytes()):
            path.unlink()
            raise TakenOverError(
                f"another run has finished {mirror.objects.name(key)} meanwhile; this one ends, and what it had finished is kept"
            )


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is either absent, old or complete: temporary file, fsync, rename."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A bucket's output as a folder, to be compared with one that a run on a disk left."""

from __future__ import annotations

from pathlib import Path

from fairsynth.store.objects import Objects
from tests.support.store.many import download_all


def fetched(uri: str, folder: Path) -> Path:
    """Every object below the address as a file of its name."""
    objects = Objects.at(uri)
    download_all(objects, {entry.key: folder / entry.key for entry in objects.walk()})
    return folder

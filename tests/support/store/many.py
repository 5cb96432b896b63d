"""Many objects at once: written, fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fairsynth.store.objects import Objects
from fairsynth.store.pool import each


def upload(objects: Objects, files: Mapping[str, Path | bytes]) -> None:
    """Write objects: key -> file or content."""
    each(lambda item: objects.write(*item), files.items())


def upload_folder(objects: Objects, folder: Path, prefix: str, names: Iterable[str] | None = None) -> None:
    """Write the files of a folder below a key; ``names`` are relative to it, and all of its files if not given."""
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    upload(objects, {f"{prefix}/{name}" if prefix else name: folder / name for name in names})


def download_all(objects: Objects, files: Mapping[str, Path]) -> list[str]:
    """Fetch objects: key -> file. Returns the keys that were not there."""
    found = each(lambda item: objects.download(*item), files.items())
    return [key for key, there in zip(files, found, strict=True) if not there]

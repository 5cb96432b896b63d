"""Hashes of files, written when they are whole and compared when they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fairsynth.errors import DamagedError

# In a unit's folder: what its other files must be.
SEAL = ".unit.json"
Seals = Mapping[str, Mapping[str, Any]]
"""By a file's path in its folder: ``bytes`` and ``sha256``."""
# Bytes that a process hashes to compare; of what it reads beyond, sizes alone are compared: latents of millions of images
# fill terabytes, of which a worker reads a part.
MOST_HASHED = 16 << 30


# Files of fewer bytes are read at once.
_AT_ONCE = 1 << 20


class _Known:
    """What this process has compared: by folder what its files must be, and which file said so; and how many bytes it hashed for that."""

    found: ClassVar = dict[str, set[int]]()
    hashed: ClassVar = 0


def seal(path: Path) -> dict[str, Any]:
    """What a file is: its size in bytes and its SHA-256."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # The buffer that large files are read by costs more than all of a small one.
        found = hashlib.sha256(file.read()) if size < _AT_ONCE else hashlib.file_digest(file, "sha256")
        return {"bytes": size, "sha256": found.hexdigest()}


def sealed(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """The seals of files below a folder."""
    return {path.relative_to(folder).as_posix(): seal(path) for path in sorted(files)}


def compare(folder: Path, seals: Seals, what: str, hashed: bool = True) -> None:
    """Compare files with what they were when they were written, once in each process: their sizes, and up to ``MOST_HASHED``
    bytes their hashes; not ``hashed``: sizes alone.

    Raises DamagedError that names ``what``: a file is missing, or its content is another.
    """
    known = hash(json.dumps(seals, sort_keys=True))
    if known in _Known.found.get(str(folder), ()):
        return
    for name, wanted in seals.items():
        if not _is(folder / name, wanted, hashed):
            raise DamagedError.of(what, name)
    if hashed:
        _Known.found.setdefault(str(folder), set()).add(known)


def compared(folder: Path) -> bool:
    """Whether a folder's files were compared with the seal that lies in it now, which need not even be read again then."""
    seen = _Known.found.get(str(folder))
    return seen is not None and _file(folder) in seen


def note_compared(folder: Path) -> None:
    """A folder's files were compared with the seal in it, as ``compare`` does with ``hashed``."""
    if file := _file(folder):
        _Known.found.setdefault(str(folder), set()).add(file)


def _file(folder: Path) -> int:
    """Which file a folder's seal is; 0: there is none."""
    try:
        found = os.stat(os.path.join(folder, SEAL))
    except FileNotFoundError:
        return 0
    return hash((found.st_ino, found.st_mtime_ns))


def forget(folder: Path) -> None:
    """A folder was made anew: what was known of it says nothing."""
    _Known.found.pop(str(folder), None)


def _is(path: Path, wanted: Mapping[str, Any], hashed: bool) -> bool:
    try:
        if os.stat(path).st_size != wanted["bytes"]:
            return False
        if not hashed or _Known.hashed + wanted["bytes"] > MOST_HASHED:
            return True
        _Known.hashed += wanted["bytes"]
        return seal(path) == wanted
    except (OSError, TypeError, KeyError):
        return False

"""The two ways in which a folder of units is kept: by renames on a disk, by conditional creates in a bucket.

Both keep the same promise (``tests/store/test_units.py``): a unit is there whole or not at all, of several writers the
first wins, and what is read is what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from fairsynth.errors import DamagedError
from fairsynth.run_folder.files import is_file, remove
from fairsynth.store.mirror import Mirror, place_of
from fairsynth.store.pool import each, each_at_once
from fairsynth.store.records import sync
from fairsynth.store.seals import SEAL, compare, compared, forget, note_compared

_RECORD = ".json"
# Units of buckets as they were seen last, by folder.
_SEEN = dict[str, tuple[float, set[str]]]()
_SEEN_SECONDS = 10.0
# Records of units in buckets that this process has found whole here, by folder: they are asked for once.
_SOUND = dict[str, dict[str, Any]]()


class KeptUnits(Protocol):
    """A folder of units, on a disk or in a bucket."""

    def done(self) -> set[str]:
        """Names of the committed units."""

    def has(self, name: str) -> bool:
        """Whether a unit is committed."""

    def folder(self, name: str, hashed: bool) -> Path:
        """The folder of a committed unit, its files here and compared, not ``hashed`` by size. Raises DamagedError."""

    def read(self, name: str, file: str) -> bytes | None:
        """One file of a committed unit; None if it has none of this name. Raises DamagedError."""

    def commit(self, name: str, private: Path) -> None:
        """Give a filled and sealed private folder its name, unless there is one of that name."""

    def sweep(self) -> None:
        """Remove what killed writers left; called while no writer is at work."""

    def discard(self, name: str) -> None:
        """Remove a committed unit."""


def kept(path: Path) -> KeptUnits:
    """The units below a path, in the way that goes with it."""
    place = place_of(path)
    return InBucket(*place) if place else OnDisk(path)


def done_lately(path: Path) -> set[str]:
    """Names of the committed units; of a bucket's as they were at most ``_SEEN_SECONDS`` ago."""
    if place_of(path) is None:
        return kept(path).done()
    when, names = _SEEN.get(str(path), (float("-inf"), set[str]()))
    if time.monotonic() - when > _SEEN_SECONDS:
        names = kept(path).done()
        _SEEN[str(path)] = time.monotonic(), names
    return names


def read_seal(folder: Path, what: str) -> dict[str, Any]:
    """The seal in a unit's folder; units of versions before seals have none."""
    try:
        with open(os.path.join(folder, SEAL), "rb") as file:
            content = json.loads(file.read())
        return {str(name): dict(wanted) for name, wanted in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError.of(what, SEAL) from None


class OnDisk:
    """Units are folders that get their names by one rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self) -> set[str]:
        if not self.path.is_dir():
            return set()
        return {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")}

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def folder(self, name: str, hashed: bool) -> Path:
        folder = self.path / name
        if not compared(folder):
            what = f"{self.path.parent.name}/units/{name}"
            compare(folder, read_seal(folder, what), what, hashed)
            if hashed:
                note_compared(folder)
        return folder

    def read(self, name: str, file: str) -> bytes | None:
        path = self.path / name / file
        return path.read_bytes() if is_file(path) else None

    def commit(self, name: str, private: Path) -> None:
        each_at_once(sync, (*private.iterdir(), private))  # a disk waits once for all of them
        try:
            os.rename(private, self.path / name)
        except OSError:
            if not self.has(name):
                raise
        sync(self.path)

    def sweep(self) -> None:
        if self.path.is_dir():
            for entry in self.path.iterdir():
                if entry.name.startswith("."):
                    remove(entry)

    def discard(self, name: str) -> None:
        aside = self.path / f".{name}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.rename(self.path / name, aside)
        shutil.rmtree(aside, ignore_errors=True)
        forget(self.path / name)


class InBucket:
    """A unit's files are objects under a name of the attempt; its record, created if it is absent, says which count."""

    def __init__(self, mirror: Mirror, key: str) -> None:
        self.mirror, self.key, self.path = mirror, key, mirror.root / key

    def done(self) -> set[str]:
        keys = self.mirror.objects.names(self.key)
        return {key.rsplit("/", 1)[-1].removesuffix(_RECORD) for key in keys if key.endswith(_RECORD)}

    def has(self, name: str) -> bool:
        return self._record(name) is not None

    def folder(self, name: str, hashed: bool) -> Path:
        folder, what = self.path / name, f"{Path(self.key).parent.name}/units/{name}"
        record = _SOUND.get(str(folder)) or self._record(name)
        if record is None:
            return folder
        fresh = _attempt_here(folder) != record["attempt"]
        if fresh:
            self._fetch(name, record)
        try:
            compare(folder, record["files"], what, hashed or fresh)
        except DamagedError:
            if fresh:
                raise
            # It may be this node's copy alone.
            shutil.rmtree(folder, ignore_errors=True)
            self._fetch(name, record)
            compare(folder, record["files"], what)
        _SOUND[str(folder)] = record
        return folder

    def read(self, name: str, file: str) -> bytes | None:
        record = self._record(name)
        if record is None or file not in record["files"]:
            return None
        content = self.mirror.objects.read(f"{self.key}/{name}/{record['attempt']}/{file}")
        if content is None or hashlib.sha256(content).hexdigest() != record["files"][file]["sha256"]:
            raise DamagedError.of(f"{Path(self.key).parent.name}/units/{name}", file)
        return content

    def commit(self, name: str, private: Path) -> None:
        attempt = private.name.rsplit(".", 1)[-1]
        files = json.loads((private / SEAL).read_text("utf-8"))["files"]
        record = {"schema": 1, "attempt": attempt, "files": files}
        objects, folder = self.mirror.objects, f"{self.key}/{name}/{attempt}"
        self.mirror.check()
        each(lambda file: objects.write(f"{folder}/{file}", Path(private / file)), files)
        # Looked at last, as near as can be to the one request that counts.
        self.mirror.check()
        if objects.create(f"{self.key}/{name}{_RECORD}", json.dumps(record, sort_keys=True).encode()):
            (private / SEAL).write_text(json.dumps(record), "utf-8")
            _put(private, self.path / name, attempt)
        else:
            objects.delete([f"{folder}/{file}" for file in files])

    def sweep(self) -> None:
        OnDisk(self.path).sweep()

    def discard(self, name: str) -> None:
        self.mirror.check()
        _SOUND.pop(str(self.path / name), None)
        self.mirror.objects.delete([f"{self.key}/{name}{_RECORD}"])
        self.mirror.objects.delete([entry.key for entry in self.mirror.objects.walk(f"{self.key}/{name}")])
        OnDisk(self.path).discard(name)

    def _record(self, name: str) -> dict[str, Any] | None:
        content = self.mirror.objects.read(f"{self.key}/{name}{_RECORD}")
        if content is None:
            return None
        try:
            record = json.loads(content)
            return {"attempt": str(record["attempt"]), "files": {str(n): dict(w) for n, w in record["files"].items()}}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedError.of(f"{Path(self.key).parent.name}/units/{name}", _RECORD) from None

    def _fetch(self, name: str, record: dict[str, Any]) -> None:
        private = self.path / f".{name}.{uuid.uuid4().hex}"
        private.mkdir(parents=True)
        try:
            for file in record["files"]:
                self.mirror.download(f"{self.key}/{name}/{record['attempt']}/{file}", Path(private / file))
            (private / SEAL).write_text(json.dumps(record), "utf-8")
            _put(private, self.path / name, record["attempt"])
        finally:
            shutil.rmtree(private, ignore_errors=True)


def _attempt_here(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / SEAL).read_text("utf-8"))["attempt"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(private: Path, final: Path, attempt: str) -> None:
    """Give a folder of this node's copy its name, unless another process of the node has put the same there."""
    forget(final)
    if final.exists() and _attempt_here(final) != attempt:
        aside = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.rename(final, aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(private, final)
    except OSError:
        if not final.exists():
            raise

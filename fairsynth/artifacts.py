"""Artifacts and units: results that exist once their record exists, and not before.

A stage writes into ``stages/<stage>-<fingerprint>/``; ``artifact.json`` there is written last, by the one run that
holds the output folder's lock (``fairsynth.lock``). A unit is a folder ``units/<name>/`` that gets its name by one
rename after all its files are on disk, whoever makes it: of two writers the first wins, the other's work is dropped.
Where the output is a bucket, ``fairsynth.store`` keeps the same promises there, and paths lie in this node's copy of it.
Both records hold the hashes of their files, which are compared when they are read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsynth.errors import DamagedError, DataError, FairsynthError
from fairsynth.run_folder.files import remove_in, require_real
from fairsynth.run_folder.records import read_json, read_record, unit_name
from fairsynth.store.arrow import forget_storage
from fairsynth.store.mirror import gone, here, newest, place_of, tree_gone, tree_sent
from fairsynth.store.place import output_root as output_root
from fairsynth.store.pool import each
from fairsynth.store.records import create, exists
from fairsynth.store.records import sync as sync
from fairsynth.store.records import write_json as write_json
from fairsynth.store.seals import SEAL, compare, forget, sealed
from fairsynth.store.units import done_lately, kept
from fairsynth.store.view import up_to_date

RECORD = "artifact.json"
# In their order; fairsynth.pipeline has what each does, and imports much for it.
_NOT_FILES = ("units", "ray", "checkpoints")
STAGES = ("ingest", "embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate", "report")


def fingerprint(content: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Counts:
    """What became of a stage's input. Raises FairsynthError unless input = used + quarantined + excluded."""

    input: int = 0
    used: int = 0
    quarantined: int = 0
    excluded: int = 0

    def __post_init__(self) -> None:
        if self.input != self.used + self.quarantined + self.excluded:
            raise FairsynthError(f"counts do not add up: {self}")


@dataclass(frozen=True)
class Identity:
    """What a stage's result depends on, and nothing else."""

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of everything above."""
        return fingerprint(
            {
                "stage": self.stage,
                "version": self.version,
                "config": dict(self.config),
                "inputs": dict(self.inputs),
                "extra": dict(self.extra),
            }
        )


class Artifact:
    """A stage's output folder. ``finished`` once its record is there."""

    def __init__(self, root: Path, identity: Identity) -> None:
        self.identity = identity
        self.fingerprint = identity.fingerprint
        self.name = f"{identity.stage}-{self.fingerprint}"
        self._path, self._sound = root / "stages" / self.name, False

    @property
    def path(self) -> Path:
        """The folder. Of a finished artifact all files but the units' are here, and compared with their hashes.

        Raises DamagedError if one is not what was written.
        """
        if not self._sound and self.finished:
            files = self.record.get("files", {})
            each(here, [self._path / name for name in files]) if place_of(self._path) else None
            self._compare(files)
            self._sound = True
        return self._path

    def _compare(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            compare(self._path, files, self.name)
        except DamagedError:
            if not place_of(self._path):
                raise
            each(newest, [self._path / name for name in files])  # it may be this node's copy alone
            compare(self._path, files, self.name)

    @property
    def finished(self) -> bool:
        """True once the record has been written."""
        return exists(self._path / RECORD)

    @property
    def record(self) -> dict[str, Any]:
        """The record: identity, counts, seconds, units, digest, files. Raises DataError if it is damaged or another's."""
        return read_record(self._path / RECORD, self.identity.stage, self.fingerprint)

    @property
    def digest(self) -> str:
        """What later stages depend on: the content's digest where the stage gave one, else the fingerprint."""
        return str(self.record.get("digest") or self.fingerprint)

    def open(self) -> Path:
        """Create the folder if it is missing, and return it."""
        require_real(self._path, 2)
        self._path.mkdir(parents=True, exist_ok=True)
        self._sound = True
        return self._path

    def units(self) -> Units:
        """The units of this stage."""
        return Units(self._path / "units")

    def send(self, name: str) -> None:
        """A folder beside the units that workers will read: where the output is a bucket, it goes there now."""
        tree_sent(self._path / name)

    def bring(self, name: str) -> None:
        """A folder beside the units that workers wrote, on other nodes perhaps: all of it is here then."""
        up_to_date(self._path / name)

    def clear(self, *names: str) -> None:
        """Remove folders that only unfinished work needs."""
        remove_in(self._path, names)
        for name in names:
            tree_gone(self._path / name)
            forget_storage(self._path / name)

    def finish(self, counts: Counts, seconds: float, digest: str | None = None, **facts: Any) -> None:
        """Write the record: from here on the artifact exists. Its files are there before it."""
        identity, files = self.identity, _files(self._path)
        create(
            self._path / RECORD,
            files,
            {
                "schema": 1,
                "stage": identity.stage,
                "version": identity.version,
                "fingerprint": self.fingerprint,
                "config": dict(identity.config),
                "inputs": dict(identity.inputs),
                "extra": dict(identity.extra),
                "digest": digest,
                "counts": vars(counts),
                "seconds": round(seconds, 2),
                "finished_at": time.time(),
                "files": sealed(self._path, files),
                **facts,
            },
        )


def _files(folder: Path) -> list[Path]:
    """The files of an artifact that are in no unit: not those of unfinished work, not hidden ones."""
    tops = [top for top in folder.iterdir() if top.name not in _NOT_FILES and not top.name.startswith(".")]
    files = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    hidden = {path for path in files if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    return sorted(path for path in files if path.name != RECORD and path not in hidden)


def take_back(root: Path, artifact: str, unit: str = "", file: str = "") -> None:
    """An artifact below an output's root is not finished after all: its stage makes what is missing.

    A damaged ``file`` of it is removed, or the damaged ``unit``, and with it all others of the artifact that are damaged.
    Raises DataError for no name of an artifact.
    """
    folder = root / "stages" / unit_name(artifact)
    gone(folder / RECORD)
    forget(folder)
    units = Units(folder / "units")
    if not unit:
        gone(folder / file)
        return
    units.discard(unit)
    for name in sorted(units.done()):
        try:
            _ = units[name]
        except DamagedError:
            units.discard(name)


def unit_file(path: Path) -> Path:
    """A file of a unit, brought here and compared as ``Units`` does, by its path alone. Raises DamagedError."""
    return Units(path.parent.parent)[path.parent.name] / path.name


def finished_records(root: Path, stage: str) -> list[tuple[Path, dict[str, Any]]]:
    """The folders and records of a stage's finished artifacts below an output folder, of whatever config; damaged ones say nothing."""
    found = []
    if place := place_of(root):
        mirror, key = place
        folders = mirror.objects.folders(f"{key}/stages".strip("/"))
        keys = [f"{folder}/{RECORD}" for folder in folders if folder.rpartition("/")[2].startswith(f"{stage}-")]
        # The copy may hold others, which are gone from the bucket.
        there = zip(keys, each(mirror.fetch, keys), strict=True)
        paths = [mirror.root / record for record, fetched in there if fetched]
    else:
        paths = sorted((root / "stages").glob(f"{stage}-*/{RECORD}"))
    for path in paths:
        with suppress(DataError):
            content = read_json(path)
            if content.get("stage") == stage and isinstance(content.get("finished_at"), int | float):
                found.append((path.parent, content))
    return found


class Units:
    """Folders that appear complete or not at all; their files are compared with their hashes where they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self) -> set[str]:
        """Names of the committed units."""
        return kept(self.path).done()

    def done_lately(self) -> set[str]:
        """The same for people who watch: of a bucket, where it takes requests, as it was some seconds ago."""
        return done_lately(self.path)

    def has(self, name: str) -> bool:
        """Whether a unit is committed."""
        return kept(self.path).has(name)

    def __getitem__(self, name: str) -> Path:
        """The unit's folder. Raises DamagedError if a file of it is not what was written, DataError for no name of a unit."""
        return kept(self.path).folder(unit_name(name), hashed=True)

    def large(self, name: str) -> Path:
        """The same for a unit that many processes read, and one has compared: by size."""
        return kept(self.path).folder(unit_name(name), hashed=False)

    def read(self, name: str, file: str) -> bytes | None:
        """One file of a committed unit, without the others; None if the unit has none of this name."""
        return kept(self.path).read(unit_name(name), file)

    def here(self, names: Iterable[str]) -> None:
        """Bring units of a bucket to this node at once, before they are read one by one."""
        if place_of(self.path):
            each(self.__getitem__, names)

    def commit(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill a private folder, then give it its name; an earlier unit of that name stays."""
        units, private = kept(self.path), self.path / f".{name}.{uuid.uuid4().hex}"
        if units.has(name):
            return self.path / name
        private.mkdir(parents=True)
        try:
            write(private)
            files = sealed(private, (path for path in private.rglob("*") if path.is_file()))
            (private / SEAL).write_text(json.dumps({"files": files}), "utf-8")
            units.commit(name, private)
        finally:
            shutil.rmtree(private, ignore_errors=True)
        return self.path / name

    def sweep(self) -> None:
        """Remove what killed writers left behind; call it while no writer is at work."""
        require_real(self.path)
        kept(self.path).sweep()

    def discard(self, name: str) -> None:
        """Remove a unit that is damaged."""
        kept(self.path).discard(unit_name(name))

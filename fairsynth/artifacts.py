"""Artifacts and units: results that exist once their record exists, and not before.

A stage writes into ``stages/<stage>-<fingerprint>/``; ``artifact.json`` there is written last, by the one run that
holds the output folder's lock (``fairsynth.lock``). A unit is a folder ``units/<name>/`` that gets its name by one
rename after all its files are on disk, whoever makes it: of two writers the first wins, the other's work is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsynth.errors import FairsynthError

RECORD = "artifact.json"
# In their order; fairsynth.pipeline has what each does, and imports much for it.
STAGES = ("ingest", "embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate", "report")


def fingerprint(content: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


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


def with_usual_mode(path: Path) -> None:
    """Give a file the mode of other new files (umask): safetensors writes its files for their owner alone."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    fresh.touch()
    shutil.copymode(fresh, path)
    fresh.unlink()


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        self.path = root / "stages" / f"{identity.stage}-{self.fingerprint}"

    @property
    def finished(self) -> bool:
        """True once the record has been written."""
        return (self.path / RECORD).exists()

    @property
    def record(self) -> dict[str, Any]:
        """The record: identity, counts, seconds, units, digest."""
        return json.loads((self.path / RECORD).read_text("utf-8"))  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """What later stages depend on: the content's digest where the stage gave one, else the fingerprint."""
        return str(self.record.get("digest") or self.fingerprint)

    def open(self) -> Path:
        """Create the folder if it is missing, and return it."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def units(self) -> Units:
        """The units of this stage."""
        return Units(self.path / "units")

    def clear(self, *names: str) -> None:
        """Remove folders that only unfinished work needs."""
        for name in names:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def finish(self, counts: Counts, seconds: float, digest: str | None = None, **facts: Any) -> None:
        """Write the record: from here on the artifact exists."""
        identity = self.identity
        write_json(
            self.path / RECORD,
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
                **facts,
            },
        )


def finished_records(root: Path, stage: str) -> list[tuple[Path, dict[str, Any]]]:
    """The folders and records of a stage's finished artifacts below an output folder, of whatever config; damaged ones say nothing."""
    found = []
    for path in sorted((root / "stages").glob(f"{stage}-*/{RECORD}")):
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("stage") == stage and "finished_at" in content:
            found.append((path.parent, content))
    return found


class Units:
    """Folders that appear complete or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self) -> set[str]:
        """Names of the committed units."""
        if not self.path.is_dir():
            return set()
        return {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")}

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    def commit(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill a private folder, then give it its name; an earlier unit of that name stays."""
        final, private = self.path / name, self.path / f".{name}.{uuid.uuid4().hex}"
        if final.exists():
            return final
        private.mkdir(parents=True)
        try:
            write(private)
            for file in private.iterdir():
                sync(file)
            sync(private)
            try:
                os.rename(private, final)
            except OSError:
                if not final.exists():
                    raise
            sync(self.path)
        finally:
            shutil.rmtree(private, ignore_errors=True)
        return final

    def sweep(self) -> None:
        """Remove what killed writers left behind; call it while no writer is at work."""
        if self.path.is_dir():
            for entry in self.path.iterdir():
                if entry.name.startswith("."):
                    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)

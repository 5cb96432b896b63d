"""A folder as a run leaves it, without a run: records of stages, progress, lock and log."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.watching import record


def finish(
    root: Path, stage: str, summary: str = "", seconds: float = 60.0, version: int = 1, **facts: Any
) -> Artifact:
    """A finished stage."""
    artifact = Artifact(root, Identity(stage, version, {}, {}))
    artifact.open()
    artifact.finish(Counts(1, 1), seconds, summary=summary or f"{stage} is done", **facts)
    return artifact


def hold(root: Path, pid: int | None = None, host: str | None = None, since: float | None = None) -> None:
    """The name of a process in the lock; without one of this process."""
    root.mkdir(exist_ok=True)
    name = {"pid": pid or os.getpid(), "host": host or socket.gethostname(), "since": since or time.time()}
    (root / ".lock").write_text(json.dumps(name), "utf-8")


def progress(root: Path, **changed: Any) -> None:
    """A record of progress, of this process and now."""
    content = {
        "schema": 1,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time() - 100,
        "updated_at": time.time(),
        "command": "fairsynth run --preset demo --out runs/x",
        "folder": "/home/me",
        "cell": None,
        "stages": {},
        "now": {"stage": ""},
        "failures": {"quarantined": 0, "retried": 0},
        "worker_hours": 0.0,
        "max_worker_hours": None,
        "ended": None,
    }
    record.write(root, content | changed)

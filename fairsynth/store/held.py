"""One run at a time on a bucket: its lease, its mark, and its logs, which are sent while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairsynth.errors import FairsynthError
from fairsynth.store.mirror import Mirror, newest, place_of
from fairsynth.store.place import mark

_LOGS = ("logs/run.jsonl", "logs/failures.jsonl")
_PROGRESS = "progress.json"
_FOLLOWED = (_PROGRESS, *_LOGS)
# Size and time of what was sent last, by file.
_SENT = dict[str, tuple[int, ...]]()


@contextmanager
def held(mirror: Mirror) -> Iterator[None]:
    """Hold a bucket's output for this process, as ``lock.locked`` does a folder.

    Raises OutputLockedError if another run holds it, ConfigError if other objects lie there.
    """
    from fairsynth.store.lease import Lease

    lease = Lease(mirror.objects)
    with lease.held():
        mark(mirror)
        mirror.fence = lease.fence
        for name in _LOGS:
            _longer(mirror, name)
        # Another machine's, perhaps: what this one last wrote shall not take its place.
        newest(mirror.root / _PROGRESS)
        _SENT[str(mirror.root / _PROGRESS)] = _facts(mirror.root / _PROGRESS)
        try:
            yield
        finally:
            followed(mirror.root)
            mirror.fence = None


def followed(root: Path) -> None:
    """Send what people watch a run by, where it has changed; what cannot be sent now is sent later."""
    if place := place_of(root):
        for name in _FOLLOWED:
            with suppress(OSError, FairsynthError):
                _send_changed(place[0], name)


def _send_changed(mirror: Mirror, name: str) -> None:
    now = _facts(mirror.root / name)
    if now and _SENT.get(str(mirror.root / name)) != now:
        mirror.send(name)
        _SENT[str(mirror.root / name)] = now


def _facts(path: Path) -> tuple[int, ...]:
    """Size and time of a file; empty if it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_size, status.st_mtime_ns


def _longer(mirror: Mirror, name: str) -> None:
    """Of a log here and in the bucket the longer one: a run that was killed may not have sent its last lines."""
    there = mirror.objects.read(name)
    path = mirror.root / name
    if there is not None and (not path.exists() or path.stat().st_size < len(there)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(there)

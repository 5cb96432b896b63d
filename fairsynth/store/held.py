"""One run at a time on a bucket: its lease, its mark, and its logs, which are sent while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairsynth.store.mirror import Mirror, newest, place_of
from fairsynth.store.place import mark

_LOGS = ("logs/run.jsonl", "logs/failures.jsonl")
_PROGRESS = "progress.json"


@contextmanager
def held(mirror: Mirror, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a bucket's output for this process, as ``lock.locked`` does a folder. ``say``: told why one waits.

    Raises OutputLockedError if another run holds it, ConfigError if other objects lie there.
    """
    from fairsynth.store.following import Following
    from fairsynth.store.lease import Lease

    lease = Lease(mirror.objects, say=say)
    with lease.held():
        mark(mirror)
        mirror.fence = lease.fence
        newest(mirror.root / _PROGRESS)
        following = Following(mirror, (_PROGRESS, *_LOGS), fetched=_PROGRESS)
        for name in _LOGS:
            _longer(mirror, name)
        following.begin()
        try:
            yield
        finally:
            following.end()
            mirror.fence = None


def followed(root: Path) -> None:
    """Have sent what people watch a run by, where it has changed; what cannot be sent now is sent later."""
    if place_of(root):
        from fairsynth.store.following import changed

        changed(root)


def _longer(mirror: Mirror, name: str) -> None:
    """Of a log here and in the bucket the longer one: a run that was killed may not have sent its last lines."""
    there = mirror.objects.read(name)
    path = mirror.root / name
    if there is not None and (not path.exists() or path.stat().st_size < len(there)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(there)

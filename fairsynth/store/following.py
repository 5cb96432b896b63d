"""Sends what people watch a run by to the bucket, beside the work: a store that fails holds nothing up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fairsynth import interrupts
from fairsynth.errors import FairsynthError
from fairsynth.store.mirror import Mirror
from fairsynth.store.objects import Objects

# Seconds: that a file is tried for; that the end of a run waits for the last ones; and the end of its process.
_PATIENCE, _LAST, _VERY_LAST = 3.0, 6.0, 2.0
# Those at work, by the folder of their copy.
_AT_WORK = dict[str, "Following"]()


class Following:
    """A thread that sends some files of a copy whenever they have changed; what cannot be sent now is sent later.

    ``fetched``: the one that is as the bucket has it.
    """

    def __init__(self, mirror: Mirror, names: Sequence[str], fetched: str) -> None:
        self._root, self._names, self._fence = Path(mirror.root), names, mirror.fence
        self._objects = Objects(mirror.objects.address, _PATIENCE)
        # It may be another machine's: what this one wrote before shall not take its place.
        self._sent = {fetched: self._facts(fetched)}
        self._wanted, self._last, self._given_up = threading.Event(), False, False
        self._thread = threading.Thread(target=self._send, daemon=True, name="following")

    def begin(self) -> None:
        """From now on ``changed`` is heard."""
        _AT_WORK[str(self._root)] = self
        interrupts.before_the_end(_end_all)
        self._thread.start()

    def changed(self) -> None:
        """Have sent what has changed; returns at once."""
        self._wanted.set()

    def end(self, seconds: float = _LAST) -> None:
        """Send what has changed, for at most so many seconds, and nothing more."""
        self._last = True
        self._wanted.set()
        self._thread.join(seconds)
        self._given_up = True
        _AT_WORK.pop(str(self._root), None)

    def _send(self) -> None:
        last = False
        while not last:
            self._wanted.wait()
            self._wanted.clear()
            last = self._last
            with suppress(OSError, FairsynthError):
                for name in self._names:
                    self._send_changed(name)

    def _send_changed(self, name: str) -> None:
        now = self._facts(name)
        if not now or self._sent.get(name) == now:
            return
        if self._fence is not None:
            self._fence.check(self._objects)
        content = (self._root / name).read_bytes()
        if not self._given_up:
            self._objects.write(name, content)
            self._sent[name] = now

    def _facts(self, name: str) -> tuple[int, ...]:
        """Size and time of a file; empty if it is not there."""
        with suppress(FileNotFoundError):
            status = (self._root / name).stat()
            return status.st_size, status.st_mtime_ns
        return ()


def changed(root: Path) -> None:
    """A file of the copy below a root has changed, by which people watch the run that holds the output."""
    if following := _AT_WORK.get(str(root)):
        following.changed()


def _end_all() -> None:
    for following in list(_AT_WORK.values()):
        following.end(_VERY_LAST)

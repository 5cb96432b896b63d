"""One run per output folder, or any number of those who only read it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from fairsynth.console import complain
from fairsynth.errors import ConfigError, OutputLockedError
from fairsynth.run_folder.files import open_file, read_text
from fairsynth.run_folder.mark import check_links, check_lock
from fairsynth.store.held import held
from fairsynth.store.mirror import place_of
from fairsynth.store.owner import Owner as Owner
from fairsynth.store.place import check_prefix

# Root may write there by their permissions, and yet nobody can make a folder.
_KERNELS = ("/proc", "/sys")
# Bytes of an owner's name.
_LONGEST = 1 << 16


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the output folder for this process.

    The lock is the kernel's (flock) and dies with its owner, so a killed run leaves nothing stale.
    Raises OutputLockedError if another run holds it or others read it, ConfigError if the folder cannot be written, or if
    its lock is a link.
    """
    if place := place_of(root):
        with held(place[0], complain):
            yield
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_lock(root)
        handle = _opened(root, "a+", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise ConfigError(
            f"cannot write to the output folder {root}: {error.strerror}; choose another with --out"
        ) from error
    with handle:
        _take(handle, root, fcntl.LOCK_EX)
        handle.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}, handle)
        handle.flush()
        try:
            yield
        finally:
            # Whoever only reads the folder later has no name there.
            handle.truncate(0)


def check_writable(root: Path) -> None:
    """Raise ConfigError, as ``locked`` does, if the folder could not be made or written; nothing is written to find out."""
    if place := place_of(root):
        place[0].objects.probe()
        check_prefix(place[0])
        return
    there = root
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    reason = 0
    if not there.is_dir():
        reason = errno.EEXIST if there == root else errno.ENOTDIR
    elif not os.access(there, os.W_OK | os.X_OK) or any(map(there.is_relative_to, _KERNELS)):
        reason = errno.EACCES
    if reason:
        raise ConfigError(f"cannot write to the output folder {root}: {os.strerror(reason)}; choose another with --out")


def check_free(root: Path) -> None:
    """Raise OutputLockedError, as ``locked`` does, if somebody holds or reads the folder now; nothing is written."""
    if place := place_of(root):
        from fairsynth.store.lease import check_free as check_lease

        check_lease(place[0].objects, say=complain)
        return
    with suppress(OSError), _opened(root, "r+", os.O_RDWR) as handle:
        _take(handle, root, fcntl.LOCK_EX)


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Keep runs out of an output folder while this process, and others like it, read it. No name is left in the lock.

    A folder in which no run has been has no lock to take, and a disk without locks keeps nobody out.
    Raises OutputLockedError if a run holds it, ConfigError if there is a link in the folder where runs write.
    """
    if place_of(root):  # what is read there never changes
        yield
        return
    check_links(root)
    try:
        handle = _opened(root, "r", os.O_RDONLY)
    except OSError:
        yield
        return
    with handle:
        _take(handle, root, fcntl.LOCK_SH)
        yield


def _opened(root: Path, mode: str, flags: int) -> TextIO:
    return open(open_file(root / ".lock", flags), mode, encoding="utf-8")  # type: ignore[return-value]


def _take(handle: TextIO, root: Path, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            if kind == fcntl.LOCK_SH:
                return  # a disk without locks: whoever reads a finished folder goes on
            raise ConfigError(
                f"the output folder {root} cannot be locked: {error.strerror}; choose a disk with file locks with --out"
            ) from None
        handle.seek(0)
        # Whoever reads a folder needs this one.
        way = "wait for it" if kind == fcntl.LOCK_SH else "wait for it, or choose another with --out"
        raise OutputLockedError(f"the output folder {root} is in use by {_owner(handle.read())}; {way}") from None


def owner(root: Path) -> Owner | None:
    """Who named itself in the lock of an output folder, without taking it; None if nobody did.

    A run that ends takes its name away; one that was killed leaves it.
    """
    if place := place_of(root):
        from fairsynth.store.lease import owner as lease_owner

        return lease_owner(place[0].objects)
    try:
        return _named(read_text(root / ".lock", _LONGEST))
    except (OSError, ValueError):
        return None


def _named(text: str) -> Owner | None:
    try:
        owner = json.loads(text)
        return Owner(int(owner["pid"]), str(owner["host"]), float(owner["since"]))
    except (ValueError, KeyError, TypeError):
        return None


def _owner(text: str) -> str:
    """Who holds the lock: those who read write no name, and a run that was killed leaves its own."""
    owner = _named(text)
    if owner is None or owner.alive is False:
        return "another run or an export"
    return f"process {owner.pid} on {owner.host} (for {time.time() - owner.since:.0f} s)"

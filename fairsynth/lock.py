"""One run per output folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairsynth.errors import ConfigError, OutputLockedError


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the output folder for this process.

    The lock is the kernel's (flock) and dies with its owner, so a killed run leaves nothing stale.
    Raises OutputLockedError if another run holds it, ConfigError if the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = open(root / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise ConfigError(
            f"cannot write to the output folder {root}: {error.strerror}; choose another with --out"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            raise OutputLockedError(
                f"the output folder {root} is in use by {_owner(handle.read())}; "
                "wait for it, or choose another with --out"
            ) from None
        handle.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}, handle)
        handle.flush()
        yield


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} (for {time.time() - owner['since']:.0f} s)"
    except (ValueError, KeyError):
        return "another run"

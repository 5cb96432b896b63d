"""Starts the fork server beside a local Ray, and ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress

from fairsynth import interrupts
from fairsynth.engine.forks import server, worker

# What a machine with graphics cards or the like has there: NVIDIA's (a driver's, a board's, Windows' own), AMD's, others.
# A library that looks for them as it is imported spoils them for forks.
_CARDS = (
    "/dev/nvidiactl",
    "/proc/driver/nvidia",
    "/dev/nvhost-ctrl",
    "/dev/nvmap",
    "/dev/dxg",
    "/dev/kfd",
    "/dev/accel",
    "/dev/accel0",
)


def can_fork() -> bool:
    """Whether workers of a local Ray may be forks here: on Linux, without graphics cards."""
    return sys.platform == "linux" and not any(os.path.exists(card) for card in _CARDS)


_folders = set[str]()


def clear() -> None:
    """Remove the folders of servers: one that is killed cannot."""
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


class Server:
    """A process that workers are forked from."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, folder: str, path: dict[str, str]) -> dict[str, str]:
        """Start it, with a socket below ``folder``; ``path`` is the variable by which it finds fairsynth.

        Returns variables for Ray's processes, by which workers find the server.
        """
        import ray
        from ray._private.services import _site_flags

        own = tempfile.mkdtemp(prefix="forks-", dir=folder)  # for this user alone, and so is its socket
        _folders.add(own)
        interrupts.before_the_end(clear)
        address = os.path.join(own, "s")
        scripts = os.path.join(ray.__path__[0], "_private", "workers", "default_worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, *_site_flags(), server.__file__, address, scripts],
            # As Ray does: libraries may have put more into the C library's environment.
            env=dict(os.environ) | path,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return {worker.ADDRESS: address}

    def ready(self, job: str, raylet: int) -> None:
        """Ray has started: the server may import it, and fork for this job of it."""
        words = json.dumps(dict(os.environ) | {"RAY_JOB_ID": job, "RAY_RAYLET_PID": str(raylet)}).encode()
        if self._process and self._process.stdin:
            with suppress(OSError):  # it has ended, and workers start as always
                self._process.stdin.write(words + b"\n")
                self._process.stdin.flush()

    def end(self) -> None:
        """End it; what was forked from it is Ray's."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin:
                with suppress(OSError):
                    self._process.stdin.close()
        self._process = None
        clear()

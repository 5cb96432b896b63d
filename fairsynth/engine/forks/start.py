"""Starts the fork server beside a local Ray, and ends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress

from fairsynth.engine.forks import server, worker

# Seconds that it has to go.
_GOES = 2.0
# What a machine with graphics cards has there: NVIDIA's, AMD's, others. A library that looks for them as it is imported
# spoils them for forks.
_CARDS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel")


def can_fork() -> bool:
    """Whether workers of a local Ray may be forks here: on Linux, without graphics cards."""
    return sys.platform == "linux" and not any(os.path.exists(card) for card in _CARDS)


class Server:
    """A process that workers are forked from."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""

    def begin(self, folder: str, path: Mapping[str, str]) -> dict[str, str]:
        """Start it, with a socket below ``folder``; ``path`` is the variable by which it finds fairsynth.

        Returns variables for Ray's processes, by which workers find the server.
        """
        import ray

        self._folder = tempfile.mkdtemp(prefix="forks-", dir=folder)  # for this user alone, and so is its socket
        address = os.path.join(self._folder, "s")
        scripts = os.path.join(ray.__path__[0], "_private", "workers", "default_worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, server.__file__, address, scripts],
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
        if not self._process:
            return
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_GOES)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

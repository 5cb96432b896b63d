"""Notices that what a session works on is gone: Ray would wait for it, for a minute and more."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.engine.address import place
from fairsynth.engine.lifetime import processes
from fairsynth.engine.lifetime.births import Births
from fairsynth.errors import InfrastructureError

_KEPT = "finished work is kept, the same command goes on"
# Seconds: between looks; without an answer of a cluster's head until it is taken for lost, less than Ray's own 60. Where
# Ray itself was told how long a head may take to come back (KubeRay does, with a GCS that is fault tolerant), that holds.
_LOOK, _PATIENCE = 0.5, 20.0
_RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
# Looks between those at which the processes are noted.
_NOTE = 10
_NAMES = {"gcs_server": "Ray's head process (gcs_server)", "raylet": "Ray's process on this machine (raylet)"}


class Watch:
    """A thread that calls ``lost`` once, with what to tell, if the local Ray's processes end or a cluster's head goes."""

    def __init__(self, lost: Callable[[InfrastructureError], None]) -> None:
        self.lost, self._over = lost, threading.Event()
        self._seen = time.monotonic()
        threading.Thread(target=self._look, daemon=True, name="head").start()

    def end(self) -> None:
        """Ray is about to be ended on purpose."""
        self._over.set()

    def _look(self) -> None:
        local = processes.started()
        head = None if local else _head()
        births, looks = _births(local), 0
        while not self._over.wait(_pause(local, births)):
            if local and looks % _NOTE == 0:
                processes.note()
            looks += 1
            why = _ended(local) if local else self._unreachable(head)
            if not why and births is not None and not births.well and (why := births.look()):
                why = (
                    f"{why}; the same programs and variables (PYTHONPATH) must work for them as for the command itself"
                )
            if why and not self._over.is_set():
                self.lost(InfrastructureError(f"{why}; {_KEPT}"))
                return

    def _unreachable(self, head: tuple[str, int] | None) -> str:
        if head is None:
            return ""
        try:
            socket.create_connection(head, timeout=4 * _LOOK).close()
            self._seen = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._seen > _patience():
                return f"the cluster's head {head[0]}:{head[1]} is lost: {error.strerror or error}"
        return ""


def _pause(local: dict[str, Any], births: Births | None) -> float:
    """Seconds until the next look."""
    if not local:
        return 4 * _LOOK
    return _LOOK / 5 if births is not None and births.hurried else _LOOK


def _births(local: dict[str, Any]) -> Births | None:
    node = getattr(sys.modules.get("ray._private.worker"), "_global_node", None)
    if "raylet" not in local or node is None:
        return None
    return Births(local["raylet"].pid, Path(node.get_logs_dir_path()) / "raylet.err")


def _patience() -> float:
    with suppress(ValueError):
        return max(_PATIENCE, float(os.environ.get(_RAYS_PATIENCE, "")))
    return _PATIENCE


def _ended(local: dict[str, Any]) -> str:
    for name, process in local.items():
        code = process.poll()
        if code is not None:
            return f"{_NAMES[name]} has ended" + (f" by signal {-code}" if code < 0 else f" with exit code {code}")
    return ""


def _head() -> tuple[str, int] | None:
    """Where the cluster's head listens, as Ray has found it, or as RAY_ADDRESS says of a head behind ``ray://``."""
    node = getattr(sys.modules.get("ray._private.worker"), "_global_node", None)
    where = getattr(node, "gcs_address", None)
    if where is None and "://" in os.environ.get("RAY_ADDRESS", "") and (there := place()):
        where = str(there)
    host, _, port = str(where or "").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None

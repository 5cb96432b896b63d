"""The processes of the local Ray that this process started."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
# Seconds that killed processes have to go.
_GOES = 2.0
_seen: dict[int, str] = {}


def end() -> None:
    """End them, and all that they have started, at once: Ray's own goodbye takes seconds, or never comes."""
    note()
    theirs = {number: start for number, start in _seen.items() if began(number) == start}  # not another of that number
    for number in theirs:
        with suppress(OSError):
            os.kill(number, signal.SIGKILL)
    until = time.monotonic() + _GOES
    # A killed process needs a moment to give its memory back. One that has no words any more is gone.
    while any(began(number) == start and command(number) for number, start in theirs.items()):
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    _seen.clear()


def note() -> None:
    """Remember who is there now: the children of a process that is killed have another parent."""
    _seen.update({number: began(number) for number in rays()})


def rays() -> list[int]:
    """Their ids: those that Ray's driver part started, and all below them."""
    package = getattr(sys.modules.get("ray"), "__path__", None)
    there = children()
    waiting = [number for number in there.get(os.getpid(), []) if package and str(package[0]) in command(number)]
    found = list[int]()
    while waiting:
        number = waiting.pop()
        found.append(number)
        waiting += there.get(number, [])
    return found


def started() -> dict[str, Any]:
    """Of a local Ray: the process that knows the cluster (gcs_server), and the one that starts workers (raylet)."""
    node = getattr(sys.modules.get("ray._private.worker"), "_global_node", None)
    processes = getattr(node, "all_processes", None) or {}
    return {name: processes[name][0].process for name in ("gcs_server", "raylet") if processes.get(name)}


def children() -> dict[int, list[int]]:
    """The ids of all processes on this machine, by that of the process which started them."""
    found: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def began(number: int) -> str:
    """When a process began, in ticks since the machine did; empty if it is not there."""
    fields = _stat(number)
    return fields[19] if fields else ""


def _stat(number: int) -> list[str]:
    with suppress(OSError):
        # What follows the name, which stands in parentheses and may have spaces and parentheses of its own.
        return (_PROC / str(number) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return []


def command(number: int) -> str:
    """The words of a process's command, or its title; empty if it is not there."""
    with suppress(OSError):
        return (_PROC / str(number) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""

"""The processes of a run: its driver, and Ray's around it, told apart by their command lines."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

_PARTS = {"raylet": "raylet/raylet", "gcs": "gcs_server"}
# Processes of Ray's that have names as workers have, and do none of a run's work.
_NO_WORKERS = tuple(
    f"ray::{name}"
    for name in (
        "IDLE",
        "DashboardAgent",
        "RuntimeEnvAgent",
        "ActorLocationTracker",
        "DatasetManager",
        "PlacementGroupCleaner",
        "PreemptionWatcher",
        "SynchronizationActor",
        "_AutoscalingCoordinatorActor",
        "_StatsActor",
    )
)


def below(pid: int) -> list[psutil.Process]:
    """All processes that a process started, and those that they started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def words(process: psutil.Process) -> str:
    """Its command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def of_kind(processes: Iterable[psutil.Process], kind: str) -> list[psutil.Process]:
    """Ray's raylets or gcs among processes, or its workers that have work (kind ``worker``)."""
    if kind == "worker":
        return [
            one for one in processes if (said := words(one)).startswith("ray::") and not said.startswith(_NO_WORKERS)
        ]
    return [one for one in processes if _PARTS[kind] in words(one).split(" ")[0]]


def name(process: psutil.Process) -> str:
    """Its name for people: a worker's as Ray sets it, else its program's and script's."""
    said = words(process)
    if said.startswith("ray::"):
        return said.strip()
    return " ".join(os.path.basename(word) for word in said.split(" ") if not word.startswith("-"))[:60]


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> list[str]:
    """Send a signal; returns the names of those that got it."""
    told = []
    for one in processes:
        called = name(one)
        with suppress(psutil.Error):
            one.send_signal(number)
            told.append(called)
    return told


def still_there(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so many seconds."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def stopped_for(processes: Iterable[psutil.Process], seconds: float) -> list[str]:
    """Stop processes for so long (SIGSTOP), then let them go on (SIGCONT)."""
    processes = list(processes)
    told = send(processes, signal.SIGSTOP)
    time.sleep(seconds)
    send(processes, signal.SIGCONT)
    return told


def end(pid: int) -> None:
    """End a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

"""Looks at an output folder: what is finished, what is at work, and whether it is alive. Nothing is written or locked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.artifacts import STAGES, finished_records
from fairsynth.errors import ConfigError, FairsynthError
from fairsynth.lock import owner
from fairsynth.run_folder.files import read_text
from fairsynth.store.mirror import names_in
from fairsynth.store.view import viewed
from fairsynth.watching import log, record

# A run writes a sign of life every ten seconds. Disks that machines share show it later.
STALE_SECONDS = 90.0
# What any run leaves, be it ever so short.
_TRACES = ("stages", "bench", ".lock", record.NAME, f"{log.FOLDER}/{log.LOG}")
RUNNING, FINISHED, STOPPED, SILENT = "running", "finished", "stopped", "silent"


def look(root: Path) -> dict[str, Any]:
    """The state of an output folder.

    ``state`` is running; silent (a process of another host that gave no sign of life for ``STALE_SECONDS``); finished;
    or stopped. Raises ConfigError for a folder in which no run has been.
    """
    process_of, root = root, viewed(root)
    if not any((root / name).exists() for name in _TRACES) and not finished_records(root, STAGES[0]):
        there = "has no run in it" if root.is_dir() else "is not there"
        raise ConfigError(
            f"the folder {root} {there}; give the output folder of a run, the one after --out, or begin one: "
            f"'fairsynth run --preset demo --out {root}'"
        )
    progress = record.read(root) or {}
    process = _process(process_of, progress)
    stages, bench = _stages(root, progress), _bench(root, progress)
    done = bench["done"] == bench["total"] if bench else all(stage["state"] == FINISHED for stage in stages)
    ended = progress.get("ended") or {}
    state = process["state"] if process else FINISHED if done and ended.get("how", FINISHED) == FINISHED else STOPPED
    return {
        "schema": 1,
        "out": f"{root}",
        "state": state,
        "process": process,
        "stages": stages,
        "now": progress.get("now") if process else None,
        "bench": bench,
        "failures": progress.get("failures"),
        "worker_hours": progress.get("worker_hours"),
        "max_worker_hours": progress.get("max_worker_hours"),
        "ended": None if process else progress.get("ended"),
        "verdict": _verdict(root),
        "report": f"{root / 'report.html'}" if "report.html" in names_in(root) else None,
        "command": progress.get("command") or None,
        "folder": progress.get("folder") or None,
    }


def _process(root: Path, progress: Mapping[str, Any]) -> dict[str, Any] | None:
    """The process at work, by its name in the lock; None if there is none, or it is of this host and dead."""
    named = owner(root)
    if named is None or named.alive is False:
        return None
    same = (named.pid, named.host) == (progress.get("pid"), progress.get("host"))
    sign = progress.get("updated_at") if same else None
    silent = max(0.0, time.time() - (sign or named.since))
    return {
        "pid": named.pid,
        "host": named.host,
        "since": named.since,
        "alive": named.alive,
        "sign_of_life": sign,
        "silent_seconds": round(silent, 1),
        "state": RUNNING if named.alive or silent <= STALE_SECONDS else SILENT,
    }


def _stages(root: Path, progress: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every stage in order, as the last invocation found or left it.

    What came behind it there waits; of an invocation that ended well, and where none is known, artifacts tell.
    """
    known, last = (
        progress.get("stages", {}),
        max((STAGES.index(name) for name in progress.get("stages", {})), default=-1),
    )
    open_end = bool(known) and (progress.get("ended") or {}).get("how") != FINISHED
    found = list[dict[str, Any]]()
    for number, name in enumerate(STAGES):
        own = known.get(name)
        newest = own or (None if open_end and number > last else _newest(root, name))
        if own and own["state"] in (RUNNING, STOPPED):
            found.append({"name": name, "state": own["state"], "seconds": None, "summary": ""})
        elif newest:
            seconds, summary = newest.get("seconds"), str(newest.get("summary", ""))
            found.append({"name": name, "state": FINISHED, "seconds": seconds, "summary": summary})
        else:
            found.append({"name": name, "state": "waiting", "seconds": None, "summary": ""})
    return found


def _newest(root: Path, stage: str) -> dict[str, Any] | None:
    """The record of the stage's newest finished artifact."""
    records = [record for _, record in finished_records(root, stage)]
    return max(records, key=lambda record: record["finished_at"], default=None)


def _bench(root: Path, progress: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cells of a bench: those done, those that failed, all of them, and the one at work. None where there is none."""
    cell, done, failed, total = progress.get("cell"), 0, 0, None
    with suppress(OSError, ValueError, KeyError, FairsynthError):
        content = json.loads(read_text(root / "bench" / "bench.json"))
        done, failed = _cells_done(content["rows"])
        total = None if cell else _cells_of(content["config"])
    if cell:
        ended = (progress.get("ended") or {}).get("how") == FINISHED
        done, total = cell["total"] if ended else cell["number"] - 1, cell["total"]
    if not cell and not (root / "bench").is_dir():
        return None
    return {"done": done, "failed": failed, "total": total, "now": cell["title"] if cell else ""}


def _cells_of(config: dict[str, Any]) -> int:
    """Cells of a bench that left no record of its progress."""
    from fairsynth.commands.bench.grid import cells  # it imports much
    from fairsynth.config import RunConfig

    return len(cells(RunConfig.model_validate(config)))


def _cells_done(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Cells that have rows, and those of them that failed."""
    done, failed = set[tuple[Any, ...]](), set[tuple[Any, ...]]()
    for row in rows:
        place = (row["dataset"], row["variant"], row["severity"], row["validation"])
        failed |= {(*place, entry["repetition"]) for entry in row["failed"]}
        done |= {(*place, number) for number in row["repetitions"]}
    return len(done | failed), len(failed)


def _verdict(root: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError):
        content = json.loads(read_text(root / "report.json"))
        return str(content["verdict"]) + (f" ({content['verdict_why']})" if content.get("verdict_why") else "")
    return None

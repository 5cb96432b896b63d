"""The log of an output folder: every line that its runs printed, with time and stage, and every failure with its trace.

``OUT/logs/run.jsonl`` is written by the one process that runs stages in the folder, whose lock it holds;
``OUT/logs/failures.jsonl`` by its workers too. Commands that only read the folder write neither.
A line is one JSON object, written by one call at the end of the file: what was written outlives a killed process, and
a later run goes on behind it. Nothing here ever fails a run.
"""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairsynth.errors import BudgetReached
from fairsynth.run_folder.files import open_file, require_real
from fairsynth.watching.redaction import redacted

FOLDER, LOG, FAILURES = "logs", "run.jsonl", "failures.jsonl"
SAID, COMPLAINED, BEAT, BEGAN, ENDED, FAILED = "said", "complained", "heartbeat", "began", "ended", "failed"
_LONGEST, _BEYOND = 20_000, 2_000  # characters of a text


class _Open:
    """The log that this process writes; None: there is none."""

    root: Path | None = None
    stage = ""
    kept = False


def note(kind: str, text: str, **facts: Any) -> None:
    """Add a line to the log of the run that this process is, if it is one."""
    if _Open.root is not None:
        stage = facts.pop("stage", _Open.stage)
        append(_Open.root / FOLDER / LOG, {"stage": stage, "kind": kind, "text": _kept(text), **facts})


def enter(stage: str) -> None:
    """The stage of the lines that follow; empty: none."""
    _Open.stage = stage


def failure(root: Path, stage: str, unit: str, reason: str, trace: str = "", again: bool = False) -> None:
    """Note that a unit, job or trial failed, from any process; ``again``: it is tried once more."""
    facts = {"stage": stage, "kind": FAILED, "unit": unit, "text": _kept(reason), "trace": _kept(trace), "again": again}
    append(root / FOLDER / FAILURES, facts)


def failed(stage: str, unit: str, reason: str, trace: str = "") -> None:
    """The same of the run that this process is, if it is one."""
    if _Open.root is not None:
        failure(_Open.root, stage, unit, reason, trace)


def append(path: Path, facts: dict[str, Any]) -> None:
    """Write a line at the end of a file, whole and at once; what cannot be written is lost."""
    line = json.dumps({"at": round(time.time(), 6), "host": socket.gethostname(), "pid": os.getpid(), **facts})
    with suppress(Exception):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_real(path.parent, 1)
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            # A line that a full disk cut short is ended first.
            size = os.lseek(descriptor, 0, os.SEEK_END)
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + line.encode("ascii") + b"\n")
        finally:
            os.close(descriptor)


@contextmanager
def logged(root: Path, command: str = "") -> Iterator[None]:
    """Keep the log of an output folder: how the work began, and how it ended.

    In a command the log stays open until the command ends (``one_command``).
    """
    _Open.root, _Open.stage = root, ""
    note(BEGAN, command)
    try:
        yield
    except BaseException as error:
        how = ending(error)
        trace = "".join(traceback.format_exception(error)) if how == "failed" else ""
        why = "" if how == "interrupted" else f": {type(error).__name__}: {error}"
        note(ENDED, how + why, how=how, trace=_kept(trace))
        raise
    else:
        _Open.stage = ""
        note(ENDED, ending(None), how=ending(None))
    finally:
        if not _Open.kept:
            _Open.root = None


def ending(error: BaseException | None) -> str:
    """How work ended, in a word."""
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "budget" if isinstance(error, BudgetReached) else "failed"


@contextmanager
def one_command() -> Iterator[None]:
    """What a command prints after its work belongs to the log, too."""
    outer, _Open.kept = _Open.kept, True
    try:
        yield
    finally:
        _Open.kept = outer
        if not outer:
            _Open.root = None


def read(root: Path, known: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """The lines of both files, in order of time; lines that are no JSON object are left out.

    ``known``: lines of each file that were read already; it is brought up to date.
    """
    known, found = {} if known is None else known, list[dict[str, Any]]()
    for name in (LOG, FAILURES):
        some = lines(root / FOLDER / name)
        found += some[known.get(name, 0) :]
        known[name] = len(some)
    return sorted(found, key=lambda line: line["at"])


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of one file; none if it is missing."""
    found = list[dict[str, Any]]()
    with suppress(OSError):
        with open(open_file(path, os.O_RDONLY), encoding="utf-8", errors="replace") as handle:
            content = handle.read()
        for text in content.splitlines():
            with suppress(ValueError, RecursionError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("at"), int | float):
                    found.append(line)
    return found


def _kept(text: str) -> str:
    """The text without secrets, cut in the middle; a secret is looked for beyond the cut, lest a part of it is left."""
    text, half = str(text), _LONGEST // 2
    if len(text) <= _LONGEST:
        return redacted(text)
    beyond = half + _BEYOND
    return f"{redacted(text[:beyond])[:half]} [...] {redacted(text[-beyond:])[-half:]}"

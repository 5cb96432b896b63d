"""Prints the log of an output folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairsynth.commands.status.look import look
from fairsynth.console import say
from fairsynth.escaping import printable
from fairsynth.store.mirror import place_of
from fairsynth.store.view import viewed
from fairsynth.watching import log

# Seconds between looks at what came since; in a bucket each look is some requests, and a run sends what is new every 10 s.
_LOOK, _LOOK_BUCKET = 1.0, 5.0


def show(root: Path, failed: bool, follow: bool) -> None:
    """Print the log, or failures alone; with ``follow`` what comes while a process is at work, too.

    Raises ConfigError for a folder in which no run has been.
    """
    look(root)
    known, told = dict[str, int](), 0
    while True:
        at_work = follow and look(root)["process"]
        new = [line for line in log.read(viewed(root), known) if not failed or is_failure(line)]
        if new:
            say("\n".join(text for line in new for text in to_lines(line, traces=failed)))
        told += len(new)
        if not at_work:
            break
        time.sleep(_LOOK_BUCKET if place_of(root) else _LOOK)
    if not told:
        say("nothing has failed" if failed else "no log: the folder is of a version that kept none")


def is_failure(line: Mapping[str, Any]) -> bool:
    """Whether a line tells of a failure."""
    return line.get("kind") == log.FAILED or (line.get("kind") == log.ENDED and line.get("how") == "failed")


def to_lines(line: Mapping[str, Any], traces: bool) -> Iterator[str]:
    """A line of the log as lines of text, each harmless for a terminal."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["at"]))
    stage = printable(str(line.get("stage", "")))
    first, *rest = str(line.get("text", "")).split("\n")
    if line.get("kind") in (log.SAID, log.BEAT) and stage:
        first = first.removeprefix(stage).strip()  # the column says it
    yield f"{when}  {stage:<10} {_kind(line)}{printable(first)}".rstrip()
    more = [*rest, *(str(line.get("trace", "")).rstrip().split("\n") if traces and line.get("trace") else [])]
    yield from (f"{'':<33}{printable(text)}".rstrip() for text in more)


def _kind(line: Mapping[str, Any]) -> str:
    kind = line.get("kind")
    if kind == log.BEGAN:
        return f"began, process {printable(str(line.get('pid')))} on {printable(str(line.get('host')))}: "
    if kind == log.ENDED:
        return "ended: "
    if kind == log.FAILED:
        unit = printable(str(line.get("unit") or ""))
        return f"failed{', tried again' if line.get('again') else ''}{': ' + unit if unit else ''}: "
    return "fairsynth: " if kind == log.COMPLAINED else ""

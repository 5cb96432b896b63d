"""The state of an output folder as lines for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fairsynth.artifacts import STAGES
from fairsynth.commands.status.look import FINISHED, RUNNING, SILENT, STALE_SECONDS
from fairsynth.escaping import printable, shortened
from fairsynth.watching.record import pieces

_MARKS = {FINISHED: "done", RUNNING: "now", "stopped": "begun", "waiting": "-"}
# Begins the name of the folder into which Ray unpacks a job's working_dir.
_RAY_PACKAGE = "_ray_pkg_"
_ENDINGS = {
    "interrupted": "interrupted",
    "failed": "it failed",
    "budget": "stopped by its budget",
    "finished": "its command ended well",
}


def to_text(found: Mapping[str, Any]) -> str:
    """Head, stages, what runs now, and what to type next."""
    lines = [_head(found), *_bench(found)]
    if not found["bench"] or found["process"]:
        lines += [_stage(stage, found) for stage in found["stages"]]
    return "\n".join([*lines, *_counts(found), *_next(found)])


def duration(seconds: float) -> str:
    """Seconds in the units that people say."""
    seconds = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def _head(found: Mapping[str, Any]) -> str:
    process, out = found["process"], printable(found["out"])
    if process:
        who = f"process {process['pid']} on {printable(process['host'])}"
        silent = duration(process["silent_seconds"])
        if found["state"] == SILENT:
            return (
                f"{out}: {who} gave no sign of life for {silent} (every 10 s is usual, {duration(STALE_SECONDS)} is "
                "the most that is waited for); if it is gone, the same command goes on"
            )
        sign = f", last sign of life {silent} ago" if process["sign_of_life"] else ""
        return f"{out}: running, {who}{sign}"
    ended = found["ended"] or {}
    if found["state"] == FINISHED:
        return f"{out}: finished" + (f", verdict: {printable(found['verdict'])}" if found["verdict"] else "")
    how = _ENDINGS.get(ended.get("how", ""), "nobody is at work in it")
    why = f": {shortened(printable(ended['why']))}" if ended.get("why") else ""
    return f"{out}: not finished, {how}{why}"


def _bench(found: Mapping[str, Any]) -> list[str]:
    bench = found["bench"]
    if not bench:
        return []
    total = "an unknown number of" if bench["total"] is None else bench["total"]
    failed = f", {bench['failed']} of them failed" if bench["failed"] else ""
    now = f"; now: {printable(bench['now'])}" if bench["now"] and found["process"] else ""
    return [f"bench: {bench['done']} of {total} cells done{failed}{now}"]


def _stage(stage: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    text, now = printable(stage["summary"]), found["now"] or {}
    if stage["state"] == FINISHED and stage["seconds"]:
        text += f" ({duration(stage['seconds'])})"
    if stage["state"] == RUNNING and now.get("stage") == stage["name"]:
        text = _now(now)
    mark = _MARKS["stopped"] if stage["state"] == RUNNING and not found["process"] else _MARKS[stage["state"]]
    return f"  {stage['name']:<10} {mark:<6} {text}".rstrip()


def _now(now: Mapping[str, Any]) -> str:
    if "total" not in now:
        return ""
    parts = [f"{pieces(now.get('reached', now['done']))}/{now['total']}"]
    parts += [f"{now['rate']:.2f}/s"] if now["rate"] else []
    if now["seconds_left"] is not None:
        parts += [f"{duration(now['seconds_left'])} left" if now["seconds_left"] else "nearly done"]
    workers = now["workers"]
    return ", ".join([*parts, f"{workers} worker{'s' if workers > 1 else ''}"])


def _counts(found: Mapping[str, Any]) -> list[str]:
    """What was set aside, which is no failure; failures; and hours."""
    failures, lines = found["failures"] or {}, list[str]()
    aside, retried = failures.get("quarantined", 0), failures.get("retried", 0)
    if aside:
        lines.append(f"{aside} image{'s' if aside > 1 else ''} quarantined (fairsynth inspect DATA names them)")
    if retried:
        lines.append(
            f"failures: {retried}, after which work was tried again (fairsynth logs {printable(found['out'])} --failed)"
        )
    if found["worker_hours"]:
        most = f" of {found['max_worker_hours']:g}" if found["max_worker_hours"] else ""
        lines.append(f"worker-hours of the last command: {found['worker_hours']:.3g}{most}")
    return lines


def _next(found: Mapping[str, Any]) -> list[str]:
    out = printable(found["out"])
    if found["state"] == FINISHED:
        table = [f"the table: {out}/bench/table.md"] if found["bench"] else []
        return table + ([_report(printable(found["report"]))] if found["report"] else [])
    if found["state"] == RUNNING:
        return [f"what it printed: fairsynth logs {out}"]
    command = printable(_going_on(found)) or f"the command that began it, with --out {out}"
    return [f"to go on{_where(str(found['folder'] or ''))}: {command}", f"what happened: fairsynth logs {out}"]


def _report(path: str) -> str:
    """Browsers open files of a disk; those of a bucket are to be fetched before."""
    return f"the report: {path}" if "://" in path else f"open {path}"


def _where(folder: str) -> str:
    """In which folder to type the command; that of a Ray job is the cluster's copy, and gone some time after the job."""
    if any(part.startswith(_RAY_PACKAGE) for part in folder.split("/")):
        return ", submit the job again with the same options"
    return f" (in {printable(folder)})" if folder else ""


def _going_on(found: Mapping[str, Any]) -> str:
    """The command that goes on: the last one, and the whole run once that was one stage and ended well."""
    command = str(found["command"] or "")
    if (found["ended"] or {}).get("how") == FINISHED:
        stage = "|".join(STAGES)
        command = re.sub(rf"^fairsynth ({stage})(?= |$)", "fairsynth run", command)
        command = re.sub(rf"^python -m jobs\.({stage})(?= |$)", "python -m jobs.pipeline", command)
    return command

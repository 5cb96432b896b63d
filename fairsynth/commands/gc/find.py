"""Finds what no record of an output folder needs. Nothing is removed, and no link is followed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth.artifacts import RECORD, finished_records
from fairsynth.run_folder.files import is_folder
from fairsynth.run_folder.mark import artifact_folders
from fairsynth.run_folder.views import private_names
from fairsynth.watching import record

LEFT, WORKING, UNFINISHED, REPLACED = (
    "left by a run that was killed",
    "checkpoints that its finished stage no longer needs",
    "unfinished, of other settings",
    "of settings that were replaced",
)
# Folders that stages use while they work, and clear at their end.
WORK = ("checkpoints", "ray")


@dataclass(frozen=True)
class Piece:
    """Something that no record needs: where, why, its bytes, when it was written to last (seconds since 1970), and the
    seconds of work that its record says it took.
    """

    path: Path
    why: str
    size: int
    newest: float
    seconds: float = 0.0


def pieces(root: Path) -> list[Piece]:
    """What no record of the folder needs, in the order of paths.

    Needed are finished reports, and in the folder of a bench finished evaluations, with all that they were made from;
    the artifacts of the last command; and of a stage that it left unfinished the newest folder.
    """
    finished = _finished(root)
    needed, last = needed_of(root, finished), last_of(root)
    found = [(path, LEFT) for path in _leftovers(root)]
    for folder in artifact_folders(root):
        if folder in finished:
            if folder not in needed and folder.name not in last:
                found.append((folder, REPLACED))
            else:
                found += [(folder / name, WORKING) for name in WORK if is_folder(folder / name)]
    found += [(folder, UNFINISHED) for folder in _unfinished(root, finished, last)]
    inside = {path for path, why in found if why in (REPLACED, UNFINISHED)}
    apart = sorted((path, why) for path, why in found if not inside & {*path.parents})
    return [_piece(path, why, finished.get(path, {})) for path, why in apart]


def _piece(path: Path, why: str, made: Mapping[str, Any]) -> Piece:
    size, newest = measure(path)
    seconds = made.get("seconds")
    return Piece(path, why, size, newest, float(seconds) if isinstance(seconds, int | float) else 0.0)


def _finished(root: Path) -> dict[Path, dict[str, Any]]:
    """The records of finished artifacts; of one whose record is damaged nobody knows what it is, so it is none of them."""
    stages = {folder.name.rpartition("-")[0] for folder in artifact_folders(root)}
    return {folder: made for stage in sorted(stages) for folder, made in finished_records(root, stage)}


def needed_of(root: Path, finished: Mapping[Path, dict[str, Any]]) -> set[Path]:
    """The artifacts that a finished report, or a bench, was made from, and these themselves."""
    ends = ("report", "evaluate") if os.path.lexists(root / "bench") else ("report",)
    waiting = [folder for folder, made in finished.items() if made["stage"] in ends]
    needed = set[Path]()
    while waiting:
        folder = waiting.pop()
        if folder in needed:
            continue
        needed.add(folder)
        inputs = finished[folder].get("inputs")
        for stage, digest in inputs.items() if isinstance(inputs, dict) else ():
            # Several may have this content: which of them it was nobody wrote down.
            waiting += [other for other, made in finished.items() if made["stage"] == stage and _digest(made) == digest]
    return needed


def _digest(made: Mapping[str, Any]) -> Any:
    return made.get("digest") or made.get("fingerprint")


def last_of(root: Path) -> set[str]:
    """The artifacts of the last command, by its record of progress."""
    stages = (record.read(root) or {}).get("stages", {})
    return {str(facts.get("folder", "")) for facts in stages.values()}


def _unfinished(root: Path, finished: Collection[Path], last: Collection[str]) -> Iterator[Path]:
    """Artifacts without a record; not the newest of a stage, which the next command may go on with, unless the last
    command finished that stage.
    """
    of_stage: dict[str, list[Path]] = {}
    for folder in artifact_folders(root):
        if folder not in finished and not os.path.lexists(folder / RECORD):
            of_stage.setdefault(folder.name.rpartition("-")[0], []).append(folder)
    for stage, folders in of_stage.items():
        ended = any(name.rpartition("-")[0] == stage and root / "stages" / name in finished for name in last)
        folders.sort(key=lambda folder: measure(folder)[1])
        yield from folders if ended else folders[:-1]


def _leftovers(root: Path) -> Iterator[Path]:
    """Private files and folders of runs that were killed."""
    places = [root, *(root / name for name in ("dataset", ".tracked"))]
    for folder in artifact_folders(root):
        places += [folder, *(folder / name for name in ("units", *WORK[:1]))]
    for place in places:
        yield from private_names(place) if is_folder(place) else ()


def measure(path: Path) -> tuple[int, float]:
    """Bytes of a file or of all in a folder, and when the newest was written."""
    size, newest, waiting = 0, 0.0, [path]
    while waiting:
        with suppress(OSError):
            top = waiting.pop()
            facts = os.lstat(top)
            newest = max(newest, facts.st_mtime)
            if is_folder(top):
                waiting += [top / name for name in os.listdir(top)]
            else:
                size += facts.st_size
    return size, newest


def sized(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

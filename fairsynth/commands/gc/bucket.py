"""Finds and removes what no record of an output in a bucket needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.artifacts import RECORD, STAGES, finished_records
from fairsynth.commands.gc.find import LEFT, REPLACED, UNFINISHED, WORK, WORKING, Piece, last_of, needed_of
from fairsynth.run_folder.files import remove
from fairsynth.store.mirror import place_of
from fairsynth.store.objects import Entry, Objects
from fairsynth.store.pool import each
from fairsynth.store.view import viewed

_PROBE = ".fairsynth-probe-"
_UNIT_RECORD = ".json"


def pieces_in_bucket(root: Path) -> list[Piece]:
    """What no record needs, by the rules of ``find.pieces``; and what attempts left that were killed before their record.

    Nothing may be at work there: until its record is written, an attempt looks like one that was killed.
    """
    place = place_of(root)
    assert place is not None
    objects, view = place[0].objects, viewed(root)
    finished = {folder.name: made for stage in STAGES for folder, made in finished_records(view, stage)}
    needed = {path.name for path in needed_of(view, {view / "stages" / name: made for name, made in finished.items()})}
    last, unfinished = last_of(view), list[tuple[float, str, list[Entry]]]()
    found = [_piece(root, entry.key, LEFT, [entry]) for entry in _probes(objects)]
    for name, entries in _artifacts(objects):
        key = f"stages/{name}"
        if name in finished and name not in needed and name not in last:
            found.append(_piece(root, key, REPLACED, entries, finished[name]))
            continue
        if name not in finished and not any(entry.key == f"{key}/{RECORD}" for entry in entries):
            unfinished.append((_newest(entries), name, entries))
        found += _inside(root, objects, key, entries, name in finished)
    for why, key, entries in _abandoned(unfinished, {name.rpartition("-")[0] for name in last if name in finished}):
        found = [piece for piece in found if root / key not in piece.path.parents]
        found.append(_piece(root, key, why, entries))
    return sorted(found, key=lambda piece: piece.path)


def removed_there(piece: Piece) -> bool:
    """Remove something; an artifact's record goes first, so that what is left of it is not taken for finished."""
    place = place_of(piece.path)
    assert place is not None
    mirror, key = place
    mirror.check()
    keys = [entry.key for entry in mirror.objects.walk(key)] or [key]
    if piece.why == REPLACED:
        mirror.objects.delete([f"{key}/{RECORD}"])
    mirror.objects.delete(keys)
    remove(piece.path)
    return True


def _artifacts(objects: Objects) -> Iterator[tuple[str, list[Entry]]]:
    """The folders of artifacts with all that lies in them, sorted."""
    grouped = dict[str, list[Entry]]()
    for entry in objects.walk("stages"):
        _, name, *rest = entry.key.split("/")
        if rest and name.rpartition("-")[0] in STAGES:
            grouped.setdefault(name, []).append(entry)
    yield from sorted(grouped.items())


def _inside(root: Path, objects: Objects, key: str, entries: list[Entry], finished: bool) -> Iterator[Piece]:
    """Attempts without a record, and the folders for work of a finished artifact."""
    attempts, records = dict[tuple[str, str], list[Entry]](), set[str]()
    for entry in entries:
        parts = entry.key.removeprefix(f"{key}/").split("/")
        if parts[0] == "units" and len(parts) == 2:
            records.add(parts[1].removesuffix(_UNIT_RECORD))
        elif parts[0] == "units" and len(parts) > 3:
            attempts.setdefault((parts[1], parts[2]), []).append(entry)
    # With a single attempt and a record, that is the one which counts.
    several = [unit for unit in records if sum(name == unit for name, _ in attempts) > 1]
    content = each(lambda unit: objects.read(f"{key}/units/{unit}{_UNIT_RECORD}"), several)
    counts = dict(zip(several, map(_attempt, content), strict=True))
    for (unit, attempt), its in attempts.items():
        # A record that cannot be read says nothing of its attempts: a run that meets it makes the unit anew.
        if unit not in records or counts.get(unit, attempt) != attempt:
            yield _piece(root, f"{key}/units/{unit}/{attempt}", LEFT, its)
    for name in WORK if finished else ():
        if its := [entry for entry in entries if entry.key.startswith(f"{key}/{name}/")]:
            yield _piece(root, f"{key}/{name}", WORKING, its)


def _attempt(content: bytes | None) -> str:
    """The attempt that a unit's record names."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(content or b"")["attempt"])
    return ""


def _abandoned(
    unfinished: Iterable[tuple[float, str, list[Entry]]], ended: set[str]
) -> Iterator[tuple[str, str, list[Entry]]]:
    """Artifacts without a record; not the newest of a stage, unless the last command finished that stage."""
    of_stage = dict[str, list[tuple[float, str, list[Entry]]]]()
    for one in unfinished:
        of_stage.setdefault(one[1].rpartition("-")[0], []).append(one)
    for stage, several in of_stage.items():
        several.sort(key=lambda one: one[:2])
        for _, name, entries in several if stage in ended else several[:-1]:
            yield UNFINISHED, f"stages/{name}", entries


def _probes(objects: Objects) -> list[Entry]:
    """What a command left that tried the bucket and was killed; listed with the top alone."""
    names = [key for key in objects.names("") if key.startswith(_PROBE)]
    return [entry for entry in objects.walk("") if entry.key in names] if names else []


def _piece(root: Path, key: str, why: str, entries: list[Entry], made: Mapping[str, Any] | None = None) -> Piece:
    seconds = (made or {}).get("seconds", 0.0)
    return Piece(root / key, why, sum(entry.size for entry in entries), _newest(entries), float(seconds))


def _newest(entries: list[Entry]) -> float:
    return max(entry.modified.timestamp() for entry in entries)

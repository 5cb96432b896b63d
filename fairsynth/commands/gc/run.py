"""Shows or removes what no record of an output folder needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fairsynth.artifacts import RECORD
from fairsynth.commands.gc.bucket import pieces_in_bucket, removed_there
from fairsynth.commands.gc.copy import copy_lines
from fairsynth.commands.gc.find import REPLACED, Piece, measure, pieces, sized
from fairsynth.commands.status.text import duration
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.lock import check_free, locked, reading
from fairsynth.run_folder.files import remove, require_real
from fairsynth.run_folder.mark import check_links, is_run_folder
from fairsynth.store.mirror import place_of

_DAY = 86400.0


def cleaned(root: Path, delete: bool, older_than: float | None) -> str:
    """What no record needs, as lines for people; with ``delete`` it is removed. ``older_than``: days since it was written to.

    Raises ConfigError for a folder that is no run's, or holds links where runs write; OutputLockedError while a run is at
    work there.
    """
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise ConfigError(f"--older-than is a number of days, 0 or more; it is {older_than:g}")
    in_bucket = place_of(root) is not None
    if not in_bucket:
        check_links(root)
    if not in_bucket and (not root.is_dir() or not is_run_folder(root)):
        there = "has no run in it" if root.is_dir() else "is not there"
        raise ConfigError(f"the folder {root} {there}; give the output folder of a run, the one after --out")
    if in_bucket:
        check_free(root)  # what a run is about to commit looks like what one left that was killed
    with locked(root) if delete else reading(root):
        found = [piece for piece in (pieces_in_bucket if in_bucket else pieces)(root) if _old(piece, older_than)]
        left = [piece for piece in found if delete and not (removed_there if in_bucket else _removed)(piece)]
        copy = copy_lines(root, delete) if in_bucket else []
    if not found:
        return "\n".join([f"nothing in {printable(f'{root}')} that no record needs" + _age(older_than), *copy])
    return "\n".join([*_told(root, found, left, delete, older_than), *copy])


def _old(piece: Piece, days: float | None) -> bool:
    return days is None or time.time() - piece.newest >= days * _DAY


def _age(days: float | None) -> str:
    return "" if days is None else f", and that is older than {days:g} days"


def _removed(piece: Piece) -> bool:
    """Remove something; an artifact's record goes first, so that what is left of it is not taken for finished."""
    require_real(piece.path.parent, 3)
    if piece.why == REPLACED:
        remove(piece.path / RECORD)
    remove(piece.path)
    return measure(piece.path)[1] == 0


def _told(
    root: Path, found: Sequence[Piece], left: Sequence[Piece], delete: bool, older_than: float | None
) -> list[str]:
    gone = [piece for piece in found if piece not in left]
    total = sum(piece.size for piece in (gone if delete else found))
    head = f"removed from {printable(f'{root}')}" if delete else f"in {printable(f'{root}')} no record needs"
    lines = [f"{head}: {sized(total)}" + _age(older_than)]
    for piece in found:
        again = f"; to make it again takes {duration(piece.seconds)} of work" if piece.why == REPLACED else ""
        kept = "NOT REMOVED: " if piece in left else ""
        lines.append(f"  {kept}{printable(str(piece.path.relative_to(root)))}  {sized(piece.size)}  {piece.why}{again}")
    if left:
        lines.append(f"{len(left)} could not be removed: no right to do so, or somebody is at work there")
    return lines if delete else [*lines, "nothing was removed; --delete removes it"]

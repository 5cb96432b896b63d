"""This machine's copy of an output in a bucket: how large it is, and what of it can go."""

from __future__ import annotations

from pathlib import Path

from fairsynth.artifacts import STAGES, finished_records
from fairsynth.commands.gc.find import measure, sized
from fairsynth.run_folder.files import is_folder, remove
from fairsynth.store.mirror import FOLDER, cache_folder
from fairsynth.store.units import kept
from fairsynth.store.view import view_of


def copy_lines(root: Path, delete: bool) -> list[str]:
    """What people are told of the copy; with ``delete`` the units in it that the bucket has of finished stages are removed.

    Whoever needs one fetches it again. With ``delete`` the lease must be held, so that no run here is at work with them.
    """
    size = sum(measure(Path(copy))[0] for copy in (root, view_of(root)))
    fetched = [folder for folder in _fetched(root) if is_folder(folder)]
    freed = sum(measure(folder)[0] for folder in fetched)
    for folder in fetched if delete else ():
        remove(folder)
    what = "were removed" if delete else "can go with --delete"
    again = f"; of them {sized(freed)}, which can be fetched again, {what}" if freed else ""
    return [f"this machine's copy in {cache_folder()} ({FOLDER}): {sized(size)}{again}"]


def _fetched(root: Path) -> list[Path]:
    """The folders in the copy of committed units of finished stages."""
    finished = [folder for stage in STAGES for folder, _ in finished_records(root, stage)]
    return [
        Path(folder / "units" / name)
        for folder in finished
        if is_folder(folder / "units")
        for name in sorted(kept(folder / "units").done())
    ]

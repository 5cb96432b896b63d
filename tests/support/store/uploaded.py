"""A run that lies on a disk, put into a bucket as if it had been made there."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from fairsynth.artifacts import RECORD, Units
from fairsynth.lock import locked
from fairsynth.store.mirror import place_of
from fairsynth.store.place import output_root
from fairsynth.store.records import create
from fairsynth.store.seals import SEAL, sealed
from tests.support.store.many import upload_folder

_NOT_SENT = (".lock", ".fairsynth", "stages", "dataset")


def uploaded(run: Path, uri: str) -> Path:
    """Commit the artifacts and units of a run through the object store, and lay its views out there; the output's root."""
    root = output_root(uri)
    place = place_of(root)
    assert place is not None
    with locked(root):
        for folder in sorted((run / "stages").iterdir()):
            _artifact(folder, root / "stages" / folder.name)
        views = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
        names = [path.as_posix() for path in views if path.parts[0] not in _NOT_SENT]
        upload_folder(place[0].objects, run, "", names)
    return root


def _artifact(source: Path, target: Path) -> None:
    units = Units(target / "units")
    for unit in sorted((source / "units").glob("[!.]*")):
        units.commit(unit.name, partial(_copied, unit))
    files = []
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and inside.parts[0] not in ("units", RECORD):
            files.append(target / inside)
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, files[-1])
    if (source / RECORD).exists():
        record = json.loads((source / RECORD).read_text("utf-8"))
        create(target / RECORD, files, record | {"files": sealed(target, files)})


def _copied(unit: Path, folder: Path) -> None:
    shutil.copytree(unit, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SEAL))

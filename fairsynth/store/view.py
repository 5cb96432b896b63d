"""An output in a bucket as those see it who only look: in a copy apart from that of runs, as the bucket is when they ask.

A run's own copy holds what is on its way to the bucket, and what another machine has replaced there meanwhile. Nobody who
reads takes it for the bucket's, or writes to it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fairsynth.errors import ConfigError, DamagedError
from fairsynth.run_folder.files import remove
from fairsynth.store.address import Address, is_bucket
from fairsynth.store.mirror import Mirror, here, mirrored, require_cache
from fairsynth.store.mirror import newest as newest
from fairsynth.store.mirror import place_of as place_of
from fairsynth.store.objects import Entry, Objects
from fairsynth.store.place import marked
from fairsynth.store.pool import each
from fairsynth.store.seals import compare

_APART = "-view"
_FOLDERS, _FILES = ("logs", "bench"), ("progress.json", "report.json")


def read_root(text: str) -> Path:
    """The root of an output that is to be read: a folder's path, or a place in this machine's view of a bucket.

    Raises ConfigError for an address that is none, or where no run has been; InfrastructureError if the bucket does not
    answer.
    """
    if not is_bucket(text):
        return Path(text).expanduser().resolve()
    address = Address.parse(text)
    require_cache()
    run = marked(Objects(address))
    if not run:
        raise ConfigError(
            f"no run of fairsynth is in {address}; give the address of a run, the one after --out, or begin one: "
            f"'fairsynth run --preset demo --out {address}'"
        )
    return mirrored(address.uri, run + _APART).root


def typed_root(text: str) -> Path:
    """The same for commands that name a folder as it was typed, and that also take a run's ``classifier/`` itself."""
    if not is_bucket(text):
        return Path(text)
    place, mark, options = text.partition("?")
    return read_root(f"{place.rstrip('/').removesuffix('/classifier')}{mark}{options}")


def view_of(root: Path) -> Path:
    """The view of an output whose root is known; of a folder it is the folder."""
    place = place_of(root)
    if place is None or place[0].run.endswith(_APART):
        return root
    return mirrored(place[0].uri, place[0].run + _APART).root


def viewed(root: Path) -> Path:
    """An output as one looks at it while it may be at work: logs, progress and tables as the bucket has them."""
    view = view_of(root)
    if place_of(view):
        for name in _FOLDERS:
            up_to_date(view / name)
        for name in _FILES:
            newest(view / name)
    return view


def up_to_date(folder: Path) -> Path:
    """A folder of a view, with the files that the bucket has there now and no others; gone if it has none."""
    if place := place_of(folder):
        mirror, key = place
        there = {entry.key: entry for entry in mirror.objects.walk(key)}
        each(partial(_brought, mirror), there.values())
        for path in folder.rglob("*") if there else ():
            if path.relative_to(mirror.root).as_posix() not in there and path.is_file() and path.suffix != ".part":
                path.unlink(missing_ok=True)
        if not there:
            remove(folder)
    return folder


def finished_here(folder: Path, record: Mapping[str, Any]) -> Path:
    """The folder of a finished artifact in a view, with the files that its record names, which are compared with it.

    Raises DamagedError if one is not what was written.
    """
    files = record.get("files", {})
    if place_of(folder):
        each(here, [folder / name for name in files])
        with suppress(DamagedError):
            compare(folder, files, folder.name)
            return folder
        each(newest, [folder / name for name in files])  # it was made anew since this machine fetched it
        compare(folder, files, folder.name)
    return folder


def _brought(mirror: Mirror, entry: Entry) -> None:
    path = Path(mirror.root / entry.key)
    stamp = _stamp(entry)
    if path.is_file():
        facts = path.stat()
        if (facts.st_size, facts.st_mtime_ns) == (entry.size, stamp):
            return
    if mirror.fetch(entry.key):
        os.utime(path, ns=(stamp, stamp))


def _stamp(entry: Entry) -> int:
    """The time of a file that was fetched, in nanoseconds: the object's, and its version in the parts of a second.

    A service tells times by the second, in which an object may have been replaced by another of its size.
    """
    version = int.from_bytes(hashlib.sha256(entry.tag.encode()).digest()[:8], "big")
    return int(entry.modified.timestamp()) * 10**9 + version % 10**9

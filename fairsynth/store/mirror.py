"""A node's copy of an output that lies in a bucket: paths below it, fetched when they are read, sent when they are whole.

Stages work on paths. Where the output is a folder of a disk these are plain paths, and the functions here do nothing.
Where it is a bucket they are ``BucketPath``: places in this node's copy of it. Such a path goes to another process, on
another node perhaps, as what it stands for, and becomes a place in that node's copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.errors import ConfigError, InfrastructureError
from fairsynth.store.pool import each

if TYPE_CHECKING:
    from fairsynth.store.lease import Fence
    from fairsynth.store.objects import Objects

FOLDER = "FAIRSYNTH_CACHE"


class BucketPath(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """A path in this node's copy of a bucket's output. In messages it is the object's address."""

    def __reduce__(self) -> tuple[Any, ...]:
        mirror, key = _place(self)
        return _there, (mirror.uri, mirror.run, mirror.fence, key)

    def __format__(self, spec: str) -> str:
        mirror, key = _place(self)
        return format(f"{mirror.uri.partition('?')[0].rstrip('/')}/{key}".rstrip("/"), spec)


class Mirror:
    """This node's copy of one output. ``run`` tells apart outputs that had the same address one after the other.

    ``fence`` is what a process must still hold to change the bucket; None: it only reads.
    """

    def __init__(self, uri: str, run: str, fence: Fence | None = None) -> None:
        self.uri, self.run, self.fence = uri, run, fence
        name = hashlib.sha256(f"{uri}\n{run}".encode()).hexdigest()[:24]
        self.root = BucketPath(cache_folder() / name)

    @cached_property
    def objects(self) -> Objects:
        """The bucket."""
        from fairsynth.store.objects import Objects

        return Objects.at(self.uri)

    def check(self) -> None:
        """Raise what ``Fence.check`` raises if another run has taken the output over."""
        if self.fence is not None:
            self.fence.check()

    def fetch(self, key: str) -> bool:
        """Bring one object here; False if there is none. A reader finds the whole file or none."""
        return self.download(key, Path(self.root / key))

    def download(self, key: str, path: Path) -> bool:
        """Write one object into a file of this copy; False if there is none. Raises InfrastructureError if the disk refuses."""
        try:
            return self.objects.download(key, path)
        except OSError as error:
            raise no_room(error) from None

    def send(self, key: str) -> None:
        """Write one file of this copy to the bucket, in the place of what is there."""
        self.check()
        self.objects.write(key, Path(self.root / key))


_MIRRORS: dict[tuple[str, str], Mirror] = {}


def no_room(error: OSError) -> InfrastructureError:
    """What to tell when this node's copies cannot be written."""
    return InfrastructureError(
        f"this machine's copy of the output cannot be written in {cache_folder()}: {error.strerror or error}; free some room "
        f"there, or set {FOLDER} to a folder on another disk, then give the same command"
    )


def require_cache(make: bool = True) -> None:
    """Raise ConfigError if this node's copies cannot be written where they are to be; ``make``: the folder is made."""
    folder = cache_folder()
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(
            f"this machine's copy of an output in a bucket cannot be written in {folder}: {error.strerror}; set {FOLDER} to a "
            "folder that can, on a disk with room for it"
        ) from None


def cache_folder() -> Path:
    """Where a node keeps its copies: FAIRSYNTH_CACHE, else fairsynth/outputs in the user's cache folder."""
    named = os.environ.get(FOLDER)
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairsynth" / "outputs"
    # Without links, so that no place in it has a second name.
    return (Path(named).expanduser() if named else usual).resolve()


def mirrored(uri: str, run: str, fence: Fence | None = None) -> Mirror:
    """This process's mirror of an output; a fence that is given is used from now on."""
    mirror = _MIRRORS.setdefault((uri, run), Mirror(uri, run))
    if fence is not None:
        mirror.fence = fence
    return mirror


def _there(uri: str, run: str, fence: Fence | None, key: str) -> Path:
    root = mirrored(uri, run, fence).root
    return root / key if key else root


def _place(path: Path) -> tuple[Mirror, str]:
    for mirror in list(_MIRRORS.values()):
        if path == mirror.root or mirror.root in path.parents:
            key = path.relative_to(mirror.root).as_posix()
            return mirror, "" if key == "." else key
    raise ValueError(f"{str(path)!r} is in no copy of a bucket")


def place_of(path: Path) -> tuple[Mirror, str] | None:
    """The mirror in which a path lies, and its key there; None for a path on a disk."""
    return _place(path) if isinstance(path, BucketPath) else None


def here(path: Path) -> Path:
    """A file that never changes once it is there: brought here unless it is. Returns the path."""
    if (place := place_of(path)) and not path.exists():
        place[0].fetch(place[1])
    return path


def newest(path: Path) -> Path:
    """A file that changes: brought here as it is now, or removed here if it is gone. Returns the path."""
    if (place := place_of(path)) and not place[0].fetch(place[1]) and path.is_file():
        path.unlink()
    return path


def sent(path: Path) -> None:
    """A file that was just written, whole: it goes to the bucket."""
    if place := place_of(path):
        place[0].send(place[1])


def gone(path: Path) -> None:
    """Remove a file, here and in the bucket, if it is there."""
    path.unlink(missing_ok=True)
    if place := place_of(path):
        place[0].check()
        place[0].objects.delete([place[1]])


def names_in(folder: Path) -> list[str]:
    """Names of the files directly in a folder, sorted, those of hidden ones left out."""
    if place := place_of(folder):
        names = [key.rsplit("/", 1)[-1] for key in place[0].objects.names(place[1])]
    else:
        names = [entry.name for entry in folder.iterdir() if entry.is_file()] if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


def tree_sent(folder: Path, last: str = "", first: str = "") -> None:
    """All files below a folder that was just filled; what the bucket has there besides is removed.

    ``last``: the file that says that the rest is there; it goes first and comes last. ``first``: the one that says whose
    the rest is; it comes before it.
    """
    if place := place_of(folder):
        mirror, key = place
        own = {path.relative_to(mirror.root).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()}
        others = [entry.key for entry in mirror.objects.walk(key) if entry.key not in own]
        mark, names = {f"{key}/{last}"} & own, {f"{key}/{first}"} & own
        mirror.check()
        mirror.objects.delete([*mark, *others])
        for some in (names, own - mark - names, mark):
            each(mirror.send, sorted(some))


def tree_gone(folder: Path) -> None:
    """Remove a folder and all below it, here and in the bucket."""
    shutil.rmtree(folder, ignore_errors=True)
    if place := place_of(folder):
        mirror, key = place
        mirror.check()
        mirror.objects.delete([entry.key for entry in mirror.objects.walk(key)])

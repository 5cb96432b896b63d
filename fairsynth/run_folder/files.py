"""Files below an output folder, read, written, copied and removed without following links.

A folder that somebody else filled may hold links that lead out of it, and pipes that never end.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.store.pool import each

# Of a text file that is read whole.
MOST_BYTES = 256 << 20
# Threads that list folders: they wait for a disk.
_LISTERS = 32


def is_folder(path: Path) -> bool:
    """Whether there is a folder of this name that is no link."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether there is a regular file of this name that is no link."""
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


def open_file(path: Path, flags: int) -> int:
    """The descriptor of a regular file that is no link; ``flags`` as ``os.open`` takes them.

    Raises OSError, also for anything else of that name, without waiting for a pipe's other end.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return descriptor


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a regular file that is no link. Raises OSError, also if it is larger than ``most`` bytes; ValueError if
    it is no UTF-8.
    """
    with open(open_file(path, os.O_RDONLY), encoding="utf-8") as handle:
        if os.fstat(handle.fileno()).st_size > most:
            raise OSError(errno.EFBIG, "the file is too large", str(path))
        return handle.read()


def write_text(path: Path, text: str) -> None:
    """Put a file in the place of whatever has the name, by one rename: a link is replaced, not what it leads to."""
    private = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(open_file(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as handle:
            handle.write(text)
        os.replace(private, path)
    finally:
        private.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to), or a folder with all in it; what cannot be removed stays.

    ``shutil.rmtree`` goes down by open folders and follows no link, not one either that comes while it is at work.
    """
    with suppress(OSError):
        if is_folder(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_in(folder: Path, names: Iterable[str]) -> None:
    """Remove these of a folder below an output folder. Raises ConfigError if a link leads to it."""
    require_real(folder)
    for name in names:
        remove(folder / name)


def require_real(folder: Path, levels: int = 3) -> None:
    """Raise ConfigError if a folder, or one of those above it inside the output folder, is a link.

    ``levels``: how many: stages/<stage>-<fingerprint>/units are three.
    """
    for path in (folder, *folder.parents)[:levels]:
        if stat.S_ISLNK(_mode(path)):
            raise refused_link(path)


def refused_link(path: Path) -> ConfigError:
    """What to tell of a link, a pipe or the like inside an output folder."""
    mode = _mode(path)
    what = "a link" if stat.S_ISLNK(mode) or stat.S_ISREG(mode) else "neither a file nor a folder"
    return ConfigError(
        f"{printable(f'{path}')} is {what}: fairsynth follows no link inside an output folder, for it could lead out of it; "
        "remove it if the folder is yours, or choose another folder"
    )


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Make the folder ``target`` and copy those of these files there that ``source`` has; anything else stays behind.

    Raises ConfigError for a link, OSError if the folder cannot be made, for one because it is there.
    """
    require_real(source)
    target.mkdir(parents=True)
    for name in names:
        if os.path.lexists(source / name):
            if not is_file(source / name):
                raise refused_link(source / name)
            copy_file(source / name, target / name)


def copy_file(source: Path, target: Path) -> None:
    """Copy a regular file that is no link, with its mode, to a name that nothing has. Raises OSError."""
    with (
        open(open_file(source, os.O_RDONLY), "rb") as read,
        open(open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as written,
    ):
        shutil.copyfileobj(read, written, 1 << 20)
        os.fchmod(written.fileno(), stat.S_IMODE(os.fstat(read.fileno()).st_mode))


def strange(folder: Path) -> Iterator[Path]:
    """What lies below a folder and is neither a regular file nor a folder: links, pipes, sockets, devices.

    Each level is looked at by many threads: a network disk takes a while to answer for each of a large run's folders.
    """
    level = [folder]
    while level:
        listed = each(_listed, level, _LISTERS)
        for _, others in listed:
            yield from others
        level = [below for folders, _ in listed for below in folders]


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders in a folder; and what is neither a folder nor a regular file."""
    folders, others = list[Path](), list[Path]()
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                others.append(Path(entry.path))
    return folders, others


def with_usual_mode(path: Path) -> None:
    """Give a file the mode of other new files (umask): safetensors writes its files for their owner alone."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    fresh.touch()
    shutil.copymode(fresh, path)
    fresh.unlink()

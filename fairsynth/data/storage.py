"""A dataset's folder, on a disk or in an object store; it is read and never written."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs

from fairsynth.config.addresses import check_address
from fairsynth.config.suggest import did_you_mean
from fairsynth.config.values import brief
from fairsynth.data.pointers import LONGEST_POINTER, pointer_hint
from fairsynth.errors import DataError
from fairsynth.store.arrow import patient
from fairsynth.store.pool import stamps

SCHEMES = ("s3", "gs")
# What systems, network disks and archivers put among people's files: previews, snapshots and what was deleted.
_SYSTEM_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot", "$recycle.bin"),
    *("system volume information", "lost+found", "__macosx"),
}
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class FileEntry:
    """A file of a dataset: its path inside it as printable Unicode, where its bytes are, size in bytes, time in ns.

    ``location`` is empty unless the name on disk is not UTF-8; then it holds the name's bytes.
    """

    path: str
    location: str
    size: int
    time: int


class Storage:
    """The folder ``root``: a local path, or an s3:// or gs:// URI (pyarrow's filesystems).

    ``made_by`` makes the folder, the same one on every node, for an output in a bucket: the built-in dataset.
    Raises DataError: no such folder, an archive, an unknown scheme, a URI that holds a password.
    """

    def __init__(self, root: str, follow_links: bool = False, made_by: Callable[[], Path] | None = None) -> None:
        self.root, self.follow_links, self.made_by = root, follow_links, made_by
        self.not_followed: list[str] = []
        self.hidden: Counter[str] = Counter()
        if not root:
            raise DataError("no dataset given; set --data.root FOLDER (or data.root in the config)")
        scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://", root)
        check_address(root)
        self.local: Path | None = None if scheme else Path(root).expanduser().absolute()
        self.filesystem, self._base = _remote(root, scheme[1]) if scheme else (fs.LocalFileSystem(), str(self.local))
        if self.local is not None:
            _check_folder(self.local, root)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.filesystem = patient(self.filesystem)
        if self.made_by is not None:  # on this node, where it has a place of its own
            self.local = self.made_by()
            self.root = self._base = str(self.local)

    def __str__(self) -> str:
        return self.root

    def name(self, path: str) -> str:
        """The full name of a file, for messages."""
        return f"{self.root.split('?')[0].rstrip('/') if self.local is None else self.root.rstrip('/')}/{path}"

    def full(self, path: str) -> str:
        """The path as the filesystem knows it."""
        return f"{self._base.rstrip('/')}/{path}"

    def is_file(self, path: str) -> bool:
        """True if the path names a file."""
        if self.local is not None:
            return os.path.isfile(self.local / path)
        return self.filesystem.get_file_info(self.full(path)).type == fs.FileType.File  # type: ignore[no-any-return]

    def is_folder(self, path: str) -> bool:
        """True if the path names a folder."""
        if self.local is not None:
            return os.path.isdir(self.local / path)
        return self.filesystem.get_file_info(self.full(path)).type == fs.FileType.Directory  # type: ignore[no-any-return]

    def names(self, folder: str = "") -> list[str]:
        """Names directly inside a folder, sorted, hidden ones left out; for recognising a layout."""
        if self.local is not None:
            try:
                # What lies behind a link that leaves the dataset is not looked at, either.
                inside = self.may_open(folder) if folder else True
                entries = [os.fsdecode(name) for name in os.listdir(os.fsencode(self.local / folder))] if inside else []
            except (OSError, ValueError):
                return []
        else:
            selector = fs.FileSelector(self.full(folder).rstrip("/"), allow_not_found=True)
            entries = [info.base_name for info in self.filesystem.get_file_info(selector)]
        return sorted(name for name in entries if not is_hidden(name))

    def open(self, path: str) -> pa.NativeFile:
        """A seekable binary file.

        Raises DataError: a missing file, a link that leaves the dataset, a pointer in the file's place (Git LFS, git-annex).
        """
        if not self.may_open(path):
            raise DataError(
                f"{self.name(path)} is a link that leaves the dataset; if that is meant: --data.follow_links true"
            )
        if self.local is not None and os.path.exists(self.full(path)) and not os.path.isfile(self.full(path)):
            raise DataError(
                f"{self.name(path)} is not a regular file; put a file, or a link to one, there"
            )  # opening a pipe would wait for ever
        try:
            file = self.filesystem.open_input_file(self.full(path))
            hint = pointer_hint(file.read()) if file.size() <= LONGEST_POINTER else ""
            file.seek(0)
        except OSError as error:
            raise DataError(f"cannot read {self.name(path)}: {_first_line(error)}") from None
        if hint:
            raise DataError(f"{self.name(path)} is {hint}")
        return file

    def files(self) -> list[FileEntry]:
        """Every file below the folder, sorted by path; hidden files are left out.

        Files below folders of the system (``@eaDir``, ``#recycle``, ``lost+found``) are left out too, and counted in
        ``hidden`` by the folder's name.
        On a disk each folder is visited once, whatever links lead to it. Links that leave the dataset are
        not followed unless ``follow_links`` is set: such files are listed and refuse to be read, such
        folders are named in ``not_followed``.
        """
        self.not_followed.clear()
        files = list(self._walk() if self.local is not None else self._listing())
        return sorted(files, key=lambda file: file.path)

    def _listing(self) -> Iterator[FileEntry]:
        base = self._base.rstrip("/") + "/"
        self.hidden.clear()
        for info in self.filesystem.get_file_info(fs.FileSelector(base.rstrip("/"), recursive=True)):
            path = info.path.removeprefix(base)
            if info.type != fs.FileType.File:
                continue
            *folders, name = path.split("/")
            hidden = next((part for part in (*folders, name) if is_hidden(part)), None)
            if hidden is None:
                yield FileEntry(path, "", int(info.size or 0), int(info.mtime_ns or 0))
            elif hidden in folders and _is_system_folder(hidden):
                self.hidden[hidden] += 1

    def _walk(self) -> Iterator[FileEntry]:
        assert self.local is not None
        top = os.fsencode(self.local)
        self.hidden.clear()
        links: list[tuple[bytes, bytes]] = []
        seen, waiting = set(), [(b"", top)]
        while waiting or links:
            # Links last and in order: a folder that a link leads to as well goes by its own name, on every disk.
            prefix, folder = waiting.pop() if waiting else links.pop(links.index(min(links)))
            try:
                status = os.stat(folder)
                entries = list(os.scandir(folder))
            except OSError as error:
                raise DataError(
                    f"cannot list {os.fsdecode(folder)!r}: {error.strerror}; make it readable for this user, or give another folder"
                ) from None
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in entries:
                if is_hidden(name := os.fsdecode(entry.name)):
                    if _is_system_folder(name) and entry.is_dir(follow_symlinks=False):
                        self.hidden += Counter({name: _files_below(entry.path)})  # keeps no zeros
                    continue
                if entry.is_symlink() and not self._may_follow(entry.path):
                    if os.path.isdir(entry.path):
                        self.not_followed.append(named(prefix + entry.name)[0])
                    else:  # listed all the same: reading it says why it cannot be used
                        yield FileEntry(*named(prefix + entry.name), 0, 0)
                elif entry.is_dir():
                    (links if entry.is_symlink() else waiting).append((prefix + entry.name + b"/", entry.path))
                elif entry.is_file():
                    stat = entry.stat()
                    yield FileEntry(*named(prefix + entry.name), stat.st_size, stat.st_mtime_ns)

    def _may_follow(self, path: bytes) -> bool:
        try:
            return os.path.exists(path) and (self.follow_links or self.inside(os.fsdecode(path)))
        except OSError:
            return False

    def may_open(self, path: str) -> bool:
        """False for a path that leads out of the dataset by a link, unless links may be followed."""
        return self.local is None or self.follow_links or self.inside(self.full(path))

    def inside(self, full: str) -> bool:
        """True if a local path, all links followed, lies inside the dataset. Raises OSError for a loop of links."""
        assert self.local is not None
        root = os.path.realpath(self.local)
        return os.path.commonpath([root, os.path.realpath(full, strict=False)]) == root

    def stamp(self, paths: set[str]) -> dict[str, tuple[int, int] | None]:
        """Size and time of some files (None: missing), which stand for their content until it is read."""
        if self.local is None:
            listed = {file.path: (file.size, file.time) for file in self._listing()}
            return {path: listed.get(path) for path in paths}
        return stamps(str(self.local), paths)


def named(raw: bytes) -> tuple[str, str]:
    """Path and location of a file whose name on disk is ``raw``.

    A name that is not UTF-8 is shown escaped, with its hash, and located by its bytes.
    """
    try:
        return raw.decode("utf-8"), ""
    except UnicodeDecodeError:
        escaped = raw.decode("utf-8", "backslashreplace")
        return f"{escaped}~{hashlib.sha256(raw).hexdigest()[:8]}", f"hex:{raw.hex()}"


def is_hidden(name: str) -> bool:
    """True for names that people do not see or did not give: with a leading dot, and those of a system's files."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES or _is_system_folder(name)


def _is_system_folder(name: str) -> bool:
    return name.lower() in _SYSTEM_FOLDERS


def _files_below(folder: bytes) -> int:
    """Files in a folder and in all below; none where it may not be listed."""
    return sum(len(files) for _, _, files in os.walk(folder))


def _first_line(error: Exception) -> str:
    return (getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__)[:300]


def _check_folder(folder: Path, given: str) -> None:
    if folder.is_file() and folder.name.lower().endswith(_ARCHIVES):
        raise DataError(
            f"{brief(given)} is an archive; unpack it and give the folder (tar shards: the folder they are in)"
        )
    if folder.is_file():
        raise DataError(f"{brief(given)} is a file; give the folder it is in")
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # the libraries that open files take names in UTF-8 alone
        raise DataError(
            f"the name of the folder {brief(given)} is not UTF-8; rename it, or give a link to it"
        ) from None
    if not folder.is_dir():
        near = did_you_mean(folder.name, _folders_beside(folder))
        raise DataError(
            f"dataset folder {brief(given)} does not exist{near}; give the folder that holds the images (data.root)"
        )


def _folders_beside(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def _remote(root: str, scheme: str) -> tuple[Any, str]:
    """pyarrow's filesystem for a URI and the path inside it."""
    if scheme not in SCHEMES:
        raise DataError(f"data.root: the scheme {scheme}:// is not supported; give a folder, s3:// or gs://")
    try:
        filesystem, base = fs.FileSystem.from_uri(root)
        if filesystem.get_file_info(base).type == fs.FileType.NotFound:
            raise DataError(
                f"dataset folder {brief(root)} does not exist; set --data.root to one that 'fairsynth inspect' can list"
            )
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"cannot open {brief(root)}: {_first_line(error)}; 'fairsynth doctor' tells what access needs"
        ) from None
    return patient(filesystem), base

"""Where an image's bytes are: in a file of its own, inside a tar shard, or in a cell of a Parquet file.

A location is text, so that it fits into the manifest: empty (the file at the image's path),
``hex:BYTES`` (a file whose name is not UTF-8), ``tar:OFFSET:SIZE:FILE`` or
``parquet:ROW_GROUP:ROW:COLUMN:FILE``, where ROW counts from the row group's start.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as fs

from fairsynth.config import ImageRules
from fairsynth.data.metadata import BadImage
from fairsynth.data.pointers import absence_hint
from fairsynth.data.storage import Storage
from fairsynth.data.tables.cells import Cells
from fairsynth.errors import DataError, InfrastructureError

_RULES = ImageRules()
_LINKED = "a link that leaves the dataset; if that is meant: --data.follow_links true"


def tar_location(file: str, offset: int, size: int) -> str:
    """Bytes ``offset`` to ``offset + size`` of a file."""
    return f"tar:{offset}:{size}:{file}"


def parquet_location(file: str, row_group: int, row: int, column: str) -> str:
    """A cell of a Parquet file: binary, or struct<bytes, path>."""
    return f"parquet:{row_group}:{row}:{quote(column, safe='')}:{file}"


def container(path: str, location: str) -> str:
    """The file inside the dataset that holds the image."""
    scheme, _, rest = location.partition(":")
    if scheme == "tar":
        return rest.split(":", 2)[2]
    if scheme == "parquet":
        return rest.split(":", 3)[3]
    return os.fsdecode(bytes.fromhex(rest)) if scheme == "hex" else path


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image file and their SHA-256."""

    content: bytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()


class ImageReader:
    """Reads images by path and location, of at most ``max_bytes`` each (``data.images.max_bytes``).

    Keeps its place in the last Parquet row group, because rows come in order.
    """

    def __init__(self, storage: Storage, max_bytes: int = _RULES.max_bytes) -> None:
        self.storage, self.max_bytes = storage, max_bytes
        self._cells: Cells | None = None
        self._lock = Lock()  # several threads may read

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["storage"], state["max_bytes"])  # type: ignore[misc]

    def read(self, path: str, location: str = "") -> ImageFile:
        """The image's bytes.

        Raises BadImage: missing_file, outside_root, unreadable, empty, too_many_bytes; InfrastructureError if the disk or the
        network fails, which is no fault of the image.
        """
        scheme, _, rest = location.partition(":")
        if scheme == "tar":
            offset, size, file = rest.split(":", 2)
            content = self._range(file, int(offset), int(size))
        elif scheme == "parquet":
            row_group, row, column, file = rest.split(":", 3)
            content = self._cell(file, int(row_group), int(row), unquote(column))
        else:
            content = self._file(container(path, location))
        if not content:
            raise BadImage("empty")
        return ImageFile(content)

    def _file(self, path: str) -> bytes:
        if self.storage.local is not None:
            return _local(self.storage, path, self.max_bytes)
        try:
            with self.storage.filesystem.open_input_file(self.storage.full(path)) as handle:
                check_size(handle.size(), self.max_bytes)
                return handle.read()  # type: ignore[no-any-return]
        except OSError as error:
            if _absent(self.storage, path):
                raise BadImage("missing_file") from None
            raise _passing(self.storage, path, error) from None

    def _range(self, file: str, offset: int, size: int) -> bytes:
        self._check_inside(file)
        check_size(size, self.max_bytes)
        try:
            with self.storage.filesystem.open_input_file(self.storage.full(file)) as handle:
                handle.seek(offset)
                content: bytes = handle.read(size)
        except FileNotFoundError:
            raise BadImage("missing_file") from None
        except OSError as error:
            raise _passing(self.storage, file, error) from None
        if len(content) < size:
            raise BadImage("truncated", "the shard ends before the image does")
        return content

    def _cell(self, file: str, row_group: int, row: int, column: str) -> bytes:
        self._check_inside(file)
        with self._lock:
            if self._cells is None or not self._cells.leads_to(file, row_group, row, column):
                self._cells = Cells(self.storage, file, row_group, column)
            try:
                return self._cells.read(row, self.max_bytes)
            except FileNotFoundError:
                raise BadImage("missing_file") from None
            except (OSError, pa.ArrowException) as error:
                self._cells = None
                # Damaged Parquet comes as an OSError, too, but without a number.
                if getattr(error, "errno", None) is not None or self.storage.local is None:
                    raise _passing(self.storage, file, error) from None
                raise BadImage("unreadable", str(error)[:200]) from None

    def _check_inside(self, file: str) -> None:
        if not self.storage.may_open(file):
            raise BadImage("outside_root", _LINKED)


def _passing(storage: Storage, path: str, error: Exception) -> InfrastructureError:
    """A fault of the disk or the network, not of the image: it must not cost the image."""
    why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    return InfrastructureError(
        f"cannot read {storage.name(path)}: {why}; finished units are kept, the same command goes on"
    )


def check_size(size: int, most: int) -> None:
    """Raise BadImage for an image of more bytes than may be."""
    if size > most:
        raise BadImage("too_many_bytes", f"{size:,} bytes; the limit is {most:,} (data.images.max_bytes)")


def _local(storage: Storage, path: str, most: int) -> bytes:
    assert storage.local is not None
    full = os.path.join(storage.local, path)
    try:
        if not storage.follow_links and not storage.inside(full):
            raise BadImage("outside_root", _LINKED if os.path.exists(full) else absence_hint(full, str(storage.local)))
        status = os.stat(full)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("unreadable", "not a regular file")
        check_size(status.st_size, most)
        with open(full, "rb") as handle:
            # Not the limit: Python takes the room first, 200 MB for each file.
            content = handle.read(status.st_size + 1)
            if len(content) > status.st_size:  # it has grown
                content += handle.read(most + 1 - len(content))
        check_size(len(content), most)
        return content
    except FileNotFoundError:
        raise BadImage("missing_file", absence_hint(full, str(storage.local)) or _other_form(full)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR):
            why = "a loop of links" if error.errno == errno.ELOOP else str(error.strerror)
            raise BadImage("unreadable", why) from None
        raise _passing(storage, path, error) from None


def _other_form(full: str) -> str:
    """A hint if the folder has a file of the same name in another Unicode form (NFC or NFD) or other case."""
    folder, name = os.path.split(full)
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    if any(unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name) for other in names):
        return "a file with this name in another Unicode form (NFC, NFD) is there"
    return "a file with this name in other case is there" if name.lower() in map(str.lower, names) else ""


def _absent(storage: Storage, path: str) -> bool:
    return storage.filesystem.get_file_info(storage.full(path)).type == fs.FileType.NotFound  # type: ignore[no-any-return]


def same_content(reader: ImageReader, row: Mapping[str, Any]) -> bytes:
    """The bytes of an image of the manifest.

    Raises DataError if they are not those that ingest saw, InfrastructureError if they cannot be read now.
    """
    try:
        file = reader.read(row["path"], row["location"])
    except BadImage as problem:
        if problem.reason == "unreadable":
            raise InfrastructureError(
                f"cannot read {row['path']!r}: {problem.detail}; finished units are kept, the same command goes on"
            ) from None
        raise _changed(row, problem.reason) from None
    if file.sha256 != row["sha256"]:
        raise _changed(row, "other content")
    return file.content


def _changed(row: Mapping[str, Any], now: str) -> DataError:
    return DataError(
        f"input_changed: {row['path']!r} is not what it was when the run began ({now}); leave the dataset alone during a "
        "run, and give the same command again to start from its new content"
    )

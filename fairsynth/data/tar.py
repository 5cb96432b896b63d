"""Reads the headers of a plain tar file from elsewhere; nothing is unpacked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from fairsynth.data.pointers import is_html
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
# These take 17 s of a slow core and 0.4 GB to find.
MAX_MEMBERS = 500_000
MAX_TEXT = 1 << 20
_BUFFER = 1 << 17
_BLOCK = 512
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
# What the standard library can raise for a damaged or hostile tar.
_DAMAGED = (tarfile.TarError, OSError, ValueError, ArithmeticError, LookupError, RecursionError)


class _TooMany(Exception):
    """A shard that takes too long and too much memory to read."""


class _Shard(io.BufferedReader):
    """A file that hands out limited pieces: a header can claim any length, even a negative one."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_TEXT:
            raise tarfile.ReadError(f"a header or text of {size} bytes; at most {MAX_TEXT} are read")
        return super().read(size)


def members(storage: Storage, shard: str, texts: tuple[str, ...]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """All members in order, with the bytes of regular files that end like one of ``texts``, at most 1 MB; else none.

    Raises DataError: compressed, truncated, damaged, no tar, more than 500,000 members.
    """
    where = storage.name(shard)
    with storage.open(shard) as handle, _Shard(handle, _BUFFER) as file:
        start = file.read(_BLOCK)
        if is_html(start):
            raise DataError(f"{where} is HTML text, not a tar; get the file again")
        if shard.lower().endswith(COMPRESSED) or start.startswith(_MAGIC):
            raise DataError(f"{where} is compressed; unpack it, or make plain .tar shards of it")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield from _walk(tar, file, texts)
        except _TooMany:
            raise DataError(f"{where} has more than {MAX_MEMBERS:,} members; make several shards of it") from None
        except _DAMAGED as error:
            what = " ".join(str(error).split())[:200]
            raise DataError(f"{where} is truncated, damaged or no tar ({what}); get it again") from None


def is_safe(member: tarfile.TarInfo) -> bool:
    """True for a regular file whose name stays inside the folder."""
    name = member.name
    inside = not name.startswith("/") and ".." not in name.split("/") and "\0" not in name
    return inside and member.isreg() and not member.issparse()


def _walk(tar: tarfile.TarFile, file: _Shard, texts: tuple[str, ...]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    at = -1
    for count in range(MAX_MEMBERS + 1):
        member = tar.next()
        if member is None:
            break
        if count == MAX_MEMBERS:
            raise _TooMany
        if tar.offset <= at or member.size < 0:  # a negative length would lead round in circles
            raise tarfile.ReadError("a member that ends before it starts")
        at = tar.offset
        tar.members.clear()  # type: ignore[attr-defined]  # otherwise all headers stay in memory
        text = b""
        if is_safe(member) and member.name.lower().endswith(texts):
            file.seek(member.offset_data)
            text = file.read(min(member.size, MAX_TEXT))
            if len(text) < min(member.size, MAX_TEXT):
                raise tarfile.ReadError(f"{member.name!r} is cut off")
        yield member, text
    # The standard library takes an unreadable header for the end.
    file.seek(tar.offset)
    rest = file.read(MAX_TEXT)
    if len(rest) < _BLOCK or rest.strip(b"\0"):
        raise tarfile.ReadError(f"no end mark at byte {tar.offset}")

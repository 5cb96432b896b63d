"""Objects below an address: read, written, listed, and two writes with a condition, on which exactly-once stands.

Service and client are obstore's (Rust's object_store). A condition is HTTP's on S3 (``If-None-Match: *``, ``If-Match`` with
the ETag), and the generation's number on Google Cloud Storage (``x-goog-if-generation-match``): a version is the ETag
there, the generation here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from fairsynth.errors import ConfigError, InfrastructureError
from fairsynth.store.address import Address
from fairsynth.store.attempts import Attempts, refusal
from fairsynth.store.client import client
from fairsynth.store.fetch import fetch
from fairsynth.store.parts import PART, Source
from fairsynth.store.pool import each

PATIENCE = 120.0
_PAGE = 1000


class Entry(NamedTuple):
    """An object: its key below the address, size in bytes, when the store says it was written, and its ETag."""

    key: str
    size: int
    modified: datetime
    tag: str = ""


class Objects:
    """The objects below an address. Keys are '/'-joined and relative to it.

    Only the address travels between processes; each makes its client when it first needs one. Threads may share one.
    All methods raise InfrastructureError: the store refuses for good (rights, region, no such bucket, expired keys), within
    seconds; or for longer than ``patience`` seconds (5xx, throttling, timeouts, cut connections, which are tried again).
    ValueError: a key that no store takes.
    """

    def __init__(self, address: Address, patience: float = PATIENCE) -> None:
        self.address, self.patience = address, patience
        self._made = dict[tuple[int, int, bool], Any]()
        self._attempts = Attempts(patience)

    @classmethod
    def at(cls, uri: str, patience: float = PATIENCE) -> Objects:
        """From an address as text. Raises ConfigError, as ``Address.parse`` does."""
        return cls(Address.parse(uri), patience)

    def __reduce__(self) -> tuple[type[Objects], tuple[Address, float]]:
        return Objects, (self.address, self.patience)

    @property
    def uri(self) -> str:
        """The whole address, from which ``at`` makes the same again."""
        return self.address.uri

    @property
    def _store(self) -> Any:
        return self._client()

    def _client(self, part: int = 0, is_download: bool = False) -> Any:
        key = os.getpid(), part, is_download
        if key not in self._made:
            self._made[key] = client(self.address, self.patience, part, is_download)
        return self._made[key]

    def name(self, key: str) -> str:
        """The full name of an object, for messages."""
        return f"{self.address}/{key}" if key else str(self.address)

    def read(self, key: str) -> bytes | None:
        """All of an object; None if there is none."""
        found = self.read_versioned(key)
        return None if found is None else found[0]

    def read_versioned(self, key: str) -> tuple[bytes, str] | None:
        """All of an object, and its version for ``swap``; None if there is none."""

        def work() -> tuple[bytes, str]:
            result = obstore.get(self._client(is_download=True), key)
            return bytes(result.bytes()), self._version(result.meta)

        _checked(key)
        try:
            return self._attempts.of(f"read {self.name(key)}", work)
        except FileNotFoundError:
            return None

    def download(self, key: str, path: Path) -> bool:
        """Write an object into a file, a piece at a time; False if there is none.

        The file has its name once it is whole. Raises OSError if the disk refuses.
        """
        _checked(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
        try:
            with open(part, "wb") as file:
                work = partial(fetch, self._client(is_download=True), key, file, {})
                self._attempts.of(f"read {self.name(key)}", work, file.tell)
            part.replace(path)
            return True
        except FileNotFoundError:
            return False
        finally:
            part.unlink(missing_ok=True)

    def write(self, key: str, content: bytes | Path) -> None:
        """Write an object, whatever was there. Large ones go in parts, which a failure takes away again."""
        _checked(key)
        source = Source(content) if isinstance(content, Path) and content.stat().st_size > PART else None

        def work() -> None:
            try:
                if source is None:
                    obstore.put(self._store, key, content, chunk_size=PART)
                else:
                    store, at_once = self._client(source.part), source.side_by_side
                    obstore.put(store, key, source.pieces(), chunk_size=source.part, max_concurrency=at_once)
            except FileNotFoundError as error:
                if refusal(error).code == "NoSuchUpload":  # given up meanwhile, or complete and the answer was lost
                    raise BaseError("the upload's parts are gone") from None
                raise

        self._attempts.of(f"write {self.name(key)}", work, source.furthest if source else None)

    def create(self, key: str, content: bytes) -> bool:
        """Write an object that is not there yet; False if it is, and then it stays.

        If the answer to a request was lost, the very same content that is found there counts as written by it. So what
        is created must say whose it is.
        """
        return self._conditional(key, content, None) is not None

    def swap(self, key: str, content: bytes, version: str) -> str | None:
        """Replace the version that was read, and return the new one; None if somebody else has written, or deleted it.

        As for ``create``, content must be new each time: on S3 a version is a hash of it.
        """
        return self._conditional(key, content, version)

    def _conditional(self, key: str, content: bytes, before: str | None) -> str | None:
        """Write if the object's version is ``before`` (None: there is none); the new version, or None if it is another."""
        _checked(key)
        mode: Any = "create" if before is None else {self._version_field: before}

        def work() -> str | None:
            try:
                return self._version(obstore.put(self._store, key, content, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if refusal(error).code.startswith("NoSuchBucket"):
                    raise
                there = self.read_versioned(key)
                if there is not None and there[0] == content:
                    return there[1]
                if (there and there[1]) == before:
                    # Another request is under way (409), or what was there is gone: who wins is not decided yet.
                    raise BaseError("status code: 409") from None
                return None

        return self._attempts.of(f"write {self.name(key)}", work)

    @property
    def _version_field(self) -> str:
        return "version" if self.address.scheme == "gs" else "e_tag"

    def _version(self, meta: Mapping[str, Any]) -> str:
        version = meta[self._version_field]
        if not version:
            raise ConfigError(f"{self._service} gives objects no {self._version_field}; choose a store that does")
        return str(version)

    def names(self, prefix: str) -> list[str]:
        """Keys of the objects directly in a folder, sorted."""
        found = (str(meta["path"]) for meta in self._listed(prefix)["objects"])
        return sorted(key for key in found if key not in ("", prefix))  # a console's mark of an empty folder

    def folders(self, prefix: str) -> list[str]:
        """Keys of the folders directly in a folder, without a slash at the end, sorted."""
        return sorted(str(found).rstrip("/") for found in self._listed(prefix)["common_prefixes"])

    def _listed(self, prefix: str) -> Any:
        _checked(prefix, or_empty=True)
        work = partial(obstore.list_with_delimiter, self._store, prefix or None)
        return self._attempts.of(f"list {self.name(prefix)}", work)

    def walk(self, prefix: str = "") -> Iterator[Entry]:
        """Every object in a folder and below, in the order of the keys. A listing that breaks off goes on where it was.

        Empty objects that other programs leave for a folder are left out.
        """
        before: Entry | None = None
        for entry in self._walk(prefix):
            if before is not None and (before.size or not entry.key.startswith(f"{before.key}/")):
                yield before
            before = entry
        if before is not None:
            yield before

    def _walk(self, prefix: str) -> Iterator[Entry]:
        _checked(prefix, or_empty=True)
        last: str | None = None
        while True:
            found = self._attempts.of(f"list {self.name(prefix)}", partial(self._page, prefix, last))
            for meta in found:
                if meta["path"]:
                    yield Entry(str(meta["path"]), int(meta["size"]), meta["last_modified"], str(meta["e_tag"] or ""))
            if len(found) < _PAGE:
                return
            last = max(str(meta["path"]) for meta in found)

    def _page(self, prefix: str, after: str | None) -> Any:
        """The next objects after a key, at most a page of them."""
        return next(iter(obstore.list(self._store, prefix or None, offset=after, chunk_size=_PAGE)), [])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        wanted = [_checked(key) for key in keys]
        if not wanted:
            return
        if self.address.scheme == "s3":  # a thousand a request
            self._attempts.of(f"delete in {self.address}", partial(obstore.delete, self._store, wanted))
        else:
            each(self._delete_one, wanted)

    def _delete_one(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._attempts.of(f"delete {self.name(key)}", partial(obstore.delete, self._store, key))

    def probe(self) -> None:
        """Try what a run needs of a store: to list, read, write, write on a condition, and delete; nothing is left there.

        Raises ConfigError: it lacks conditional writes, by which two runs, or two workers, are kept apart.
        """
        key = f".fairsynth-probe-{secrets.token_hex(8)}"
        try:
            self._try(key)
        except BaseException as error:
            with suppress(InfrastructureError):
                self.delete([key])
            if isinstance(error, InfrastructureError) and "NotImplemented" in str(error):
                raise ConfigError(self._lacking("If-None-Match, If-Match")) from None
            raise
        self.delete([key])

    def _try(self, key: str) -> None:
        mine, others = secrets.token_bytes(16), secrets.token_bytes(16)
        if not self.create(key, mine) or self.create(key, others):
            raise ConfigError(self._lacking("If-None-Match"))
        found = self.read_versioned(key)
        if found is None or found[0] != mine or key not in self.names(""):
            raise ConfigError(f"{self._service} does not show at once what was written; {_NEEDED}")
        if self.swap(key, others, found[1]) is None or self.swap(key, secrets.token_bytes(16), found[1]) is not None:
            raise ConfigError(self._lacking("If-Match"))

    @property
    def _service(self) -> str:
        cloud = "Google Cloud Storage" if self.address.scheme == "gs" else "Amazon S3"
        return f"the store of {self.address} ({self.address.endpoint() or cloud})"

    def _lacking(self, header: str) -> str:
        return f"{self._service} has no conditional writes ({header}), which keep two runs apart; {_NEEDED}"


_NEEDED = "use Amazon S3, Google Cloud Storage (gs://), or a service that has them (MinIO, Ceph, Cloudflare R2), or a shared disk"


def _checked(key: str, or_empty: bool = False) -> str:
    """The key itself. Raises ValueError: one with an empty part, '.', '..' or a control character."""
    if or_empty and not key:
        return key
    if any(part in ("", ".", "..") for part in key.split("/")) or any(ord(c) < 32 or ord(c) == 127 for c in key):
        raise ValueError(f"{key!r} is no key: parts that are empty, '.' or '..', or control characters")
    return key

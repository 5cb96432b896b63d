"""Where a local Ray keeps its files, and what to say when Ray does not start."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from fairsynth.engine.address import place
from fairsynth.errors import InfrastructureError

_USUAL = "/tmp"  # noqa: S108 - Ray's own default
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes, of any Unix socket's path
# Ray's longest socket: its session is named by time and process.
_SOCKET = "session_2000-01-01_00-00-00_000000_{}/sockets/plasma_store"
_WAYS = {
    errno.ENOSPC: "free some space, or set RAY_TMPDIR to a folder that has more",
    errno.EDQUOT: "free some space, or set RAY_TMPDIR to a folder that has more",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "end programs that hold many files open",
    errno.ENOMEM: "end programs that hold much memory",
}
# How Ray tells, in its error or on stderr, that a token is wrong or missing.
_REFUSED = re.compile(r"unauthenticated|InvalidAuthToken|AuthenticationError", re.IGNORECASE)
_TOKEN = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the head's token (or have it in ~/.ray/auth_token); "  # noqa: S105
    "'fairsynth doctor' checks it"
)
_MOST_SAID = 1_000_000  # bytes
_ELSEWHERE = "set RAY_TMPDIR to a folder that can be written, with a short path"


def ray_folder() -> str:
    """The folder of a local Ray's sockets, logs and spilled objects: ``ray`` in RAY_TMPDIR, else in TMPDIR, else in /tmp.

    Job schedulers set a TMPDIR whose path is too long for the sockets in it: then it is the one in /tmp.
    Raises InfrastructureError: the folder cannot be written, or RAY_TMPDIR is too long.
    """
    asked = os.environ.get("RAY_TMPDIR")
    base = os.path.abspath(asked or os.environ.get("TMPDIR") or _USUAL)
    folder = os.path.join(base, "ray")
    if not _holds_sockets(folder) and not asked:
        folder = os.path.join(_USUAL, "ray")
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise not_started(error, f"a local Ray cannot write to {folder}") from error
    if not _holds_sockets(folder):
        raise InfrastructureError(
            f"RAY_TMPDIR is {asked}, which is too long for Ray's sockets: their paths have at most {_LONGEST_SOCKET} "
            "bytes; set it to a short path, or leave it unset"
        )
    return folder


def _holds_sockets(folder: str) -> bool:
    return len(os.fsencode(os.path.join(folder, _SOCKET.format(os.getpid())))) <= _LONGEST_SOCKET


@contextmanager
def stderr_kept() -> Iterator[Callable[[], str]]:
    """Keep back what is written to stderr, for the function that this gives: Ray's C++ part announces its log level there.

    Why a cluster refuses a token stands there, too, and nowhere else.
    """
    with suppress(AttributeError, OSError, ValueError):  # there may be none, or a closed one
        sys.stderr.flush()
    kept = os.dup(2)
    with _nameless() as file:
        os.dup2(file.fileno(), 2)

        def said() -> str:
            with suppress(AttributeError, OSError, ValueError):
                sys.stderr.flush()
            file.seek(0)
            return file.read(_MOST_SAID).decode("utf-8", "replace")

        text: list[str] = []
        try:
            yield lambda: text[0]
        finally:
            text.append(said())
            os.dup2(kept, 2)
            os.close(kept)


def _nameless() -> IO[bytes]:
    """A file without a name, even where no disk has room for one."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "r+b")


def not_started(error: Exception, what: str = "", said: str = "") -> InfrastructureError:
    """What to tell of any error with which Ray refused to start or to be joined, and what to do about it.

    ``said``: what it wrote to stderr.
    """
    address = os.environ.get("RAY_ADDRESS", "").removeprefix("local")
    what = what or (f"cannot connect to {place() or address}" if address else "a local Ray did not start")
    why = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        why = error.strerror + (f": {error.filename}" if error.filename and not address else "")
    if address and _REFUSED.search(f"{error}\n{said}"):
        return InfrastructureError(f"{what}: the cluster refused the token, or asks for one; {_TOKEN}")
    if address:
        return InfrastructureError(f"{what}: {why}; if the cluster asks for a token, {_TOKEN}")
    if isinstance(error, OSError):
        return InfrastructureError(f"{what}: {why}; {_WAYS.get(error.errno or 0, _ELSEWHERE)}")
    return InfrastructureError(
        f"{what}: {why}; if the machine is busy, the same command may succeed later, and finished work is kept"
    )

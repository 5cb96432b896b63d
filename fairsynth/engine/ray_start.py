"""Where a local Ray keeps its files, and what to say when Ray does not start."""

from __future__ import annotations

import errno
import os
import sys
import tempfile

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


def not_started(error: Exception, what: str = "") -> InfrastructureError:
    """What to tell of any error with which Ray refused to start or to be joined, and what to do about it."""
    address = os.environ.get("RAY_ADDRESS")
    what = what or (f"cannot connect to {address}" if address else "a local Ray did not start")
    why = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        why = error.strerror + (f": {error.filename}" if error.filename and not address else "")
    if address:
        return InfrastructureError(f"{what}: {why}")
    if isinstance(error, OSError):
        return InfrastructureError(f"{what}: {why}; {_WAYS.get(error.errno or 0, _ELSEWHERE)}")
    return InfrastructureError(
        f"{what}: {why}; if the machine is busy, the same command may succeed later, and finished work is kept"
    )

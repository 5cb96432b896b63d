"""The cluster of RAY_ADDRESS, asked before Ray is: Ray waits for many minutes where nobody answers."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from fairsynth.errors import InfrastructureError

# Ports of a head: of its own protocol, and of Ray Client's (ray://).
_PORTS = {"": 6379, "ray": 10001}
_SECONDS = 5.0
WAYS = "set RAY_ADDRESS to HOST:PORT of a running head, or unset it for a local Ray"


class Place(NamedTuple):
    """Where a head listens; ``port`` as it was given."""

    host: str
    port: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def place() -> Place | None:
    """Where RAY_ADDRESS says that the head listens, without a password; None if it names no place (``auto``, ``local``)."""
    scheme, _, rest = os.environ.get("RAY_ADDRESS", "").strip().rpartition("://")
    where = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    if where in ("", "auto", "local") or scheme not in _PORTS:
        return None
    host, colon, port = where.rpartition(":")
    return Place(host, port) if colon else Place(port, str(_PORTS[scheme]))


def silence(there: Place) -> str:
    """Why nobody answers there, after 5 seconds at most; empty if somebody does."""
    if not there.port.isdigit():
        return f"{there.port!r} is no port"
    try:
        with socket.create_connection((there.host.strip("[]"), int(there.port)), timeout=_SECONDS):
            return ""
    except (OSError, OverflowError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)


def check_address() -> None:
    """Raise InfrastructureError if RAY_ADDRESS names a place where nobody answers."""
    there = place()
    if there is not None and (why := silence(there)):
        raise InfrastructureError(
            f"cannot connect to {there} (RAY_ADDRESS): {why}; {WAYS} ('fairsynth doctor' checks a cluster)"
        )
